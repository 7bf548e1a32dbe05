"""The last section of gpu_check.py: studies of real data, side by side, in what time is left."""

import argparse
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[1]
QUICK = REPO / "configs" / "quick"
LEVEL_ROWS = "pfl,pfl_lrp,pfl_lrp_mean"
# Detector -> the levers that are compared with it.
STUDIES = {
    "faster_rcnn": "sampling,bfp,balanced_l1,libra",
    "atss": LEVEL_ROWS,
    "retinanet": LEVEL_ROWS,
}
# 18 passes over 200 images of at most 384 pixels.
PROTOCOL = [
    *("SOLVER.MAX_ITER", "450", "SOLVER.STEPS", "(340,410)", "SOLVER.WARMUP_ITERS", "50"),
    *("SOLVER.IMS_PER_BATCH", "8", "SOLVER.BASE_LR", "0.0005", "TEST.EVAL_PERIOD", "150"),
    *("INPUT.MIN_SIZE_TRAIN", "(288,)", "INPUT.MAX_SIZE_TRAIN", "384"),
    *("INPUT.MIN_SIZE_TEST", "288", "INPUT.MAX_SIZE_TEST", "384"),
    *("SOLVER.CHECKPOINT_PERIOD", "100000"),
]
TINY = [
    *("SOLVER.MAX_ITER", "2", "SOLVER.STEPS", "()", "SOLVER.WARMUP_ITERS", "1"),
    *("SOLVER.IMS_PER_BATCH", "2", "INPUT.MIN_SIZE_TRAIN", "(64,)", "INPUT.MIN_SIZE_TEST", "64"),
]
SECONDS_TO_END = 25  # for stopping what runs, and for the answers
RECORDS = ("study.json", "study_run.json", "metrics.json", "results.json", "results.txt")


def run(args: argparse.Namespace, write: Callable, seconds_left: Callable[[], float]) -> None:
    """Make the studies at once, then their answers; the records of all runs go into one archive."""
    if not args.dataset:
        print("[gpu-check] no --dataset: no study")
        return
    folder = args.output / "study"
    jobs = args.jobs or max(len(STUDIES), (os.cpu_count() or 1) - 2)
    share, more = divmod(jobs, len(STUDIES))
    minutes = (seconds_left() - SECONDS_TO_END) / 60
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    processes = []
    for i, name in enumerate(STUDIES):
        command = study_command(args, name, folder / name, share + (i < more), minutes)
        with open(args.output / f"study_{name}.log", "w") as log:
            processes.append(
                subprocess.Popen(command, cwd=REPO, env=env, stdout=log, stderr=subprocess.STDOUT)
            )
    for process in processes:
        process.wait()
    write(answers(folder, args.output))


def study_command(
    args: argparse.Namespace, name: str, folder: Path, jobs: int, minutes: float
) -> list[str]:
    """The command line of one detector's study on all data sets."""
    tiny = args.device == "cpu"
    command = [sys.executable, "tools/study.py", "--output", str(folder)]
    command += ["--config-file", str(QUICK / f"{name}_EffLite0_FPN_own.yaml")]
    command += ["--levers", "bfp" if tiny and name == "faster_rcnn" else STUDIES[name]]
    command += ["--jobs", str(jobs), "--minutes", f"{minutes:.2f}"]
    command += ["--seeds", "1" if tiny else "20"]
    command += [x for data in args.dataset for x in ("--dataset", data)]
    weights = ["MODEL.TIMM.WEIGHTS", args.weights] if args.weights else []
    return [*command, *(TINY if tiny else PROTOCOL), *weights, "MODEL.DEVICE", args.device]


def answers(folder: Path, output: Path) -> dict[str, Any]:
    """What the studies say, in words and numbers; the records of their runs in an archive."""
    texts, results = [], {}
    for name in STUDIES:
        command = [sys.executable, "tools/study.py", "--collect", "--output", str(folder / name)]
        done = subprocess.run(command, cwd=REPO, capture_output=True, text=True)
        texts.append(f"{name}:\n{done.stdout or done.stderr}")
        file = folder / name / "results.json"
        results[name] = json.loads(file.read_text()) if file.exists() else None
    with tarfile.open(output / "study.tar.gz", "w:gz") as archive:
        for file in sorted(folder.rglob("*.json*")) + sorted(folder.rglob("*.txt")):
            if file.name in RECORDS:
                archive.add(file, file.relative_to(folder))
    return {"text": "\n".join(texts), "results": results}
