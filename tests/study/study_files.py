"""A tiny detector, drawn data and the command for the tests of whole studies."""

import json
import os
import subprocess
import sys
from pathlib import Path

from libra_umop.data.shapes import write_shapes

REPO = Path(__file__).resolve().parents[2]
CONFIG = """
_BASE_: "{base}"
MODEL:
  WEIGHTS: ""
  DEVICE: "cpu"
  BACKBONE: {{FREEZE_AT: 0}}
  RESNETS:
    {{DEPTH: 50, RES2_OUT_CHANNELS: 32, STEM_OUT_CHANNELS: 8, WIDTH_PER_GROUP: 8, NORM: "BN"}}
  FPN: {{OUT_CHANNELS: 32}}
  ANCHOR_GENERATOR: {{SIZES: [[16], [32], [64], [128], [256]]}}
  ATSS: {{NUM_CONVS: 1, NORM: "", SCORE_THRESH_TEST: 0.0, TOPK_CANDIDATES_TEST: 50}}
INPUT: {{MIN_SIZE_TRAIN: [64], MAX_SIZE_TRAIN: 64, MIN_SIZE_TEST: 64, MAX_SIZE_TEST: 64}}
SOLVER:
  REFERENCE_WORLD_SIZE: 0
  OPTIMIZER: "AdamW"
  IMS_PER_BATCH: 2
  BASE_LR: 0.001
  WARMUP_ITERS: 1
  STEPS: []
  MAX_ITER: 40
  CHECKPOINT_PERIOD: 4
TEST: {{EVAL_PERIOD: 10}}
DATALOADER: {{NUM_WORKERS: 0, FILTER_EMPTY_ANNOTATIONS: False}}
"""


def write_study_files(folder: Path) -> dict:
    """Data set and config; returns the arguments that name them."""
    write_shapes(folder / "shapes", num_train=12, num_val=4, size=64, seed=0)
    config = folder / "tiny.yaml"
    config.write_text(CONFIG.format(base=REPO / "configs" / "Base-ATSS.yaml"))
    return {"dataset": str(folder / "shapes"), "config": str(config)}


def study_command(files: dict, output: Path, *words: str) -> list:
    """The command of a study in ``output``."""
    command = [sys.executable, str(REPO / "tools" / "study.py"), "--dataset", files["dataset"]]
    return [*command, "--config-file", files["config"], "--output", str(output), *words]


def environment() -> dict:
    """Of a study's process: one thread, this checkout."""
    paths = [str(REPO / "projects"), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}


def run_study(files: dict, output: Path, *words: str) -> subprocess.CompletedProcess:
    """Run a study to its end."""
    command = study_command(files, output, *words)
    return subprocess.run(command, capture_output=True, text=True, env=environment())


def records(output: Path) -> dict:
    """The records of all runs, by variant and seed."""
    found = {}
    for path in sorted(Path(output).glob("runs/*/*/*/study_run.json")):
        record = json.loads(path.read_text())
        found[record["variant"], record["seed"]] = record
    return found
