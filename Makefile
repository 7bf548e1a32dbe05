# Every target sets up what it needs by itself, then runs lines that a person could type.
# VENV=/path, or an active environment, is used as it is if it has torch and Detectron2.

PYTHON ?= python3
VENV ?= $(if $(VIRTUAL_ENV),$(VIRTUAL_ENV),.venv)
RUN := $(VENV)/bin/python
SHAPES := output/shapes
DEMO := output/demo
MINUTES := 8
DATA :=
USED := backbones,export,plots,study

.PHONY: help setup setup-dev demo test lint pages site image gpu-check clean

help:
	@echo "make setup   make an environment in .venv with all that the commands need"
	@echo "make demo    set up, train and evaluate Libra Faster R-CNN on drawn shapes, and look at it"
	@echo "make test    set up, and run all tests"
	@echo "make lint    set up, and check style, types, scripts and schemas"
	@echo "make pages   write what documents say of keys, levers and configs"
	@echo "make site    build the documents' site into site/ (Python 3.11 or newer)"
	@echo "make image   build the container image for cluster training (buildah or docker)"
	@echo "make gpu-check  tests, speed and training on a GPU, into benchmarks/gpu (MINUTES=8, DATA=...)"
	@echo "make clean   remove what the demo made"

setup:
	@$(PYTHON) dev/setup_environment.py $(VENV) --extras $(USED)

setup-dev:
	@$(PYTHON) dev/setup_environment.py $(VENV) --extras $(USED),dev

demo: setup
	$(RUN) tools/make_shapes.py --output $(SHAPES)
	$(RUN) train_net.py --config-file configs/quick/libra_faster_rcnn_R_18_FPN_shapes.yaml --dataset $(SHAPES) --overwrite OUTPUT_DIR $(DEMO) ANALYSIS.ENABLED True ANALYSIS.PERIOD 10
	$(RUN) tools/contact_sheet.py --weights $(DEMO)/model_final.pth --dataset $(SHAPES) --output $(DEMO)/contact_sheet.png
	$(RUN) tools/report.py $(DEMO)

test: setup-dev
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2

lint: setup-dev
	PATH="$(abspath $(VENV))/bin:$$PATH" dev/linter.sh --check

pages: setup-dev
	$(RUN) dev/config_page.py
	$(RUN) dev/levers_table.py
	$(RUN) dev/model_zoo.py

site:
	$(PYTHON) -m venv .venv-site
	.venv-site/bin/pip install --quiet --requirement docs/requirements.txt
	NO_MKDOCS_2_WARNING=1 .venv-site/bin/mkdocs build --strict

image:
	dev/build_image.sh

gpu-check: setup-dev
	$(RUN) dev/gpu_check.py --minutes $(MINUTES) $(addprefix --dataset ,$(DATA))

clean:
	rm -rf $(SHAPES) $(DEMO)
