#!/bin/bash
# Make the pictures of docs/images from the study's JSON, from what `make demo` left behind, and from the same
# run without levers, which is trained if it is not there. Look at each picture before it is committed.
# Needs chromium; PYTHON is that of the environment.
set -euo pipefail
cd "$(dirname "$0")/.."
DEMO=output/demo PLAIN=output/plain SHAPES=output/shapes IMAGES=docs/images
PYTHON=${PYTHON:-.venv/bin/python}
CHROMIUM=${CHROMIUM:-chromium}

if [ ! -f "$DEMO/model_final.pth" ]; then
  echo "make_images.sh: $DEMO/model_final.pth is not there; 'make demo' trains it" >&2
  exit 2
fi
if [ ! -f "$PLAIN/model_final.pth" ]; then
  "$PYTHON" train_net.py --config-file configs/quick/faster_rcnn_R_18_FPN_shapes.yaml --dataset "$SHAPES" \
    --overwrite OUTPUT_DIR "$PLAIN" ANALYSIS.ENABLED True ANALYSIS.PERIOD 10
fi

"$PYTHON" tools/contact_sheet.py --weights "$DEMO/model_final.pth" --dataset "$SHAPES" --output "$IMAGES/demo.jpg"
"$PYTHON" tools/check_dataset.py --dataset "$SHAPES" --config-file configs/quick/faster_rcnn_R_18_FPN_shapes.yaml \
  --quick --gallery "$IMAGES/gallery.jpg" > /dev/null
"$PYTHON" dev/draw_augmentation.py --dataset "$SHAPES" --output "$IMAGES/augmentation.jpg"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$PYTHON" tools/report.py "$PLAIN" --output "$scratch/report.html" > /dev/null
"$PYTHON" dev/study_answer.py --figure "$scratch/study.html"

# A page from its top, in px.
shoot() { # NAME PAGE WIDTH HEIGHT
  "$CHROMIUM" --headless --no-sandbox --disable-gpu --hide-scrollbars --virtual-time-budget=20000 \
    --blink-settings=preferredColorScheme=1 --user-data-dir="$scratch/chromium" \
    --window-size="$3,$4" --screenshot="$IMAGES/$1" "file://$scratch/$2" 2> /dev/null
}
shoot report_findings.png report.html 1240 1024
shoot study_answer.png study.html 1256 736
