#!/usr/bin/env bash
# Build the wheel, install it in an empty environment, and use it in a folder outside the checkout:
# draw shapes, check them, train two iterations, predict, export and report; then the notebook, which
# does the same in Python.
#
#   dev/try_wheel.sh [FOLDER]        FOLDER for the environment; a temporary one by default
#
# PYTHON is the interpreter that makes the environment. Downloads torch (about 2 GB).
set -euo pipefail
cd "$(dirname "$0")/.."
repo=$PWD
work=${1:-$(mktemp -d)}
mkdir -p "$work/empty"
[[ ${1:-} ]] || trap 'rm -rf "$work"' EXIT
unset PYTHONPATH VIRTUAL_ENV

"${PYTHON:-python3}" -m venv "$work/venv"
pip=("$work/venv/bin/python" -m pip install --quiet --constraint constraints.txt)
"$work/venv/bin/python" -m pip wheel --quiet --no-deps --wheel-dir "$work" .
"${pip[@]}" setuptools torch torchvision
"$work/venv/bin/python" tools/install_detectron2.py
"${pip[@]}" "$(echo "$work"/libra_umop-*.whl)[export,plots]"

cd "$work/empty"
bin=$work/venv/bin
short=(SOLVER.MAX_ITER 2 SOLVER.STEPS "()" SOLVER.IMS_PER_BATCH 2 MODEL.DEVICE cpu ANALYSIS.ENABLED True
  ANALYSIS.PERIOD 1)
"$bin/libra-umop" shapes --output shapes --num-train 8 --num-val 4 --size 96
"$bin/python" - "$repo" <<'EOF'
import sys
import libra_umop

assert not libra_umop.__file__.startswith(sys.argv[1]), libra_umop.__file__
assert libra_umop.get_config("COCO-Detection/umop_atss_R_50_FPN_1x.yaml").MODEL.META_ARCHITECTURE
EOF
"$bin/libra-umop" check --dataset shapes
"$bin/libra-umop" train --config-file quick/umop_atss_R_18_FPN_shapes.yaml --dataset shapes "${short[@]}"
"$bin/libra-umop" predict --weights output/model_final.pth shapes/images --output drawn --threshold 0
"$bin/libra-umop" export --weights output/model_final.pth --format onnx --output model.onnx --sizes 96x96
"$bin/libra-umop" report output
"$bin/libra-umop" sheet --weights output/model_final.pth --dataset shapes --output sheet.png
mkdir notebook
(cd notebook && MPLBACKEND=agg "$bin/python" - "$repo/examples/own_data.ipynb" <<'EOF'
import json
import sys

names = {}
for cell in json.load(open(sys.argv[1]))["cells"]:
    if cell["cell_type"] == "code":
        exec("".join(cell["source"]), names)
        if "KEYS" in names:
            names["DATASET"] = "../shapes"
            names["KEYS"].update({"SOLVER.IMS_PER_BATCH": 2, "MODEL.DEVICE": "cpu"})
assert names["run"].results["bbox"] and len(names["found"]) == 4
EOF
)
ls -l drawn model.onnx output sheet.png notebook/output/report.html
