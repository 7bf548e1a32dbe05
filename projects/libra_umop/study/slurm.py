"""The matrix of a study as a Slurm job array, through the batch script that trains."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ..errors import ConfigError

__all__ = ["array_index", "submit"]

BATCH_SCRIPT = Path("deploy") / "slurm" / "train.sbatch"
PROGRAM = Path("tools") / "study.py"


def array_index(num_runs: int) -> int:
    """Which run this task of a job array makes.

    Raises:
        ConfigError: not inside a job array, or one of more tasks than runs.
    """
    text = os.environ.get("SLURM_ARRAY_TASK_ID", "")
    if not text.isdigit():
        raise ConfigError(
            f"--task: SLURM_ARRAY_TASK_ID is {text!r}, should be a run's number; --slurm submits"
            " the array"
        )
    if int(text) >= num_runs:
        raise ConfigError(f"--task: SLURM_ARRAY_TASK_ID is {text}, but there are {num_runs} runs")
    return int(text)


def submit(argv: Sequence[str], indices: Sequence[int], jobs: int, sbatch: Sequence[str]) -> str:
    """Submit one array task for each run that is not over.

    Args:
        argv: the study's command line without ``--slurm``; every task repeats it with ``--task``.
        indices: of the runs in the plan.
        jobs: how many tasks at once.
        sbatch: more options of sbatch.

    Returns:
        what sbatch said.

    Raises:
        ConfigError: Slurm or the batch script is not here, or sbatch refuses.
    """
    if shutil.which("sbatch") is None:
        raise ConfigError("--slurm: sbatch is not on the PATH; is this a Slurm machine?")
    if not BATCH_SCRIPT.is_file():
        raise ConfigError(f"--slurm: {Path.cwd()} has no {BATCH_SCRIPT}, should be the repository")
    command = ["sbatch", "--nodes=1", "--job-name=study", f"--array={_ranges(indices)}%{jobs}"]
    command += [*sbatch, str(BATCH_SCRIPT), *argv, "--task"]
    env = {**os.environ, "TRAIN_PROGRAM": str(PROGRAM), "NPROC_PER_NODE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    if done.returncode:
        raise ConfigError(f"--slurm: sbatch refused: {' '.join(done.stderr.split())}")
    return done.stdout.strip()


def _ranges(indices: Sequence[int]) -> str:
    """0, 1, 2, 5 as "0-2,5": a long list would not fit into sbatch's option."""
    parts: list[list[int]] = []
    for index in sorted(indices):
        if parts and index == parts[-1][1] + 1:
            parts[-1][1] = index
        else:
            parts.append([index, index])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)
