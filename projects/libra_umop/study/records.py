"""What a study writes into the OUTPUT_DIR of each run: ``study_run.json``, whole or absent.

Fields: ``status`` "started", "done" or "failed"; ``reason`` of a failure; ``dataset``, ``variant``,
``seed``; ``config``, the run's config as YAML; and of a finished run ``metrics`` ("bbox/AP":
percent or None), ``iterations``, ``seconds`` of the last process, ``step_seconds`` (median),
``memory_mib`` (peak: CUDA's allocator, or the process's resident set), ``device``, ``torch``.
"""

import json
import os
from pathlib import Path
from typing import Any

from ..utils.output_files import writing

__all__ = [
    "BASELINE",
    "PLAN_FILE",
    "RECORD",
    "is_over",
    "read_json",
    "read_record",
    "run_folder",
    "write_json",
    "write_record",
]

BASELINE = "baseline"  # name of the row that all others are compared with
PLAN_FILE = "study.json"
RECORD = "study_run.json"


def run_folder(folder: Path, dataset: str, variant: str, seed: int) -> Path:
    """OUTPUT_DIR of one run of the study in ``folder``."""
    return Path(folder) / "runs" / dataset / variant / f"seed_{seed}"


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; {} where there is none, or half a one."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def write_json(path: Path, content: Any) -> None:
    """Write beside ``path`` and rename, so that no half file ever has its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with writing(path):
        part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        os.replace(part, path)


def read_record(folder: Path) -> dict[str, Any]:
    """The record of the run in ``folder``; {} before it has one."""
    return read_json(Path(folder) / RECORD)


def write_record(folder: Path, content: dict[str, Any]) -> None:
    """Replace the record of the run in ``folder``."""
    write_json(Path(folder) / RECORD, content)


def is_over(record: dict[str, Any]) -> bool:
    """Whether a run needs no more work: done, or failed and not to be tried again."""
    return record.get("status") in ("done", "failed")
