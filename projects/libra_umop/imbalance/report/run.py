"""Reading what a training left in its OUTPUT_DIR: config, metrics, imbalance, detections."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ...data.coco.document import read_json
from ...data.layouts.coco import coco_file
from ...data.layouts.reading.layout import Split
from .. import records


@dataclass
class Run:
    """One run. What was not found is empty or None.

    Attributes:
        name: as people see it; unique in a report.
        folder: its OUTPUT_DIR.
        config: ``config.yaml`` as nested dicts.
        metrics: lines of ``metrics.json``, by iteration.
        meta, steps: see :mod:`libra_umop.imbalance.records`.
        detections: COCO result dicts of the last evaluation.
        ground_truth: what ``detections`` are compared with.
        train_set: what was trained on.
    """

    name: str
    folder: Path
    config: dict[str, Any] = field(default_factory=dict)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    meta: dict[str, Any] = field(default_factory=dict)
    steps: list[dict[str, Any]] = field(default_factory=list)
    detections: list[dict[str, Any]] | None = None
    ground_truth: Split | None = None
    train_set: Split | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """The run's losses and samplers, see :func:`records.empty_settings`."""
        return {**records.empty_settings(), **self.meta.get("settings", {})}

    def final_metrics(self, task: str = "bbox") -> dict[str, float]:
        """The last evaluation's numbers, ``{"AP": 12.3, ...}``, in percent."""
        found: dict[str, float] = {}
        for line in self.metrics:
            for key, value in line.items():
                name = metric_name(key, task)
                if name and isinstance(value, (int, float)):
                    found[name] = float(value)
        return found


def metric_name(key: str, task: str) -> str:
    """``AP-a/b`` of the key ``bbox/AP-a/b`` or ``DATASET/bbox/AP-a/b``; "" for another task's key.

    The name of a class may have slashes.
    """
    return f"/{key}".partition(f"/{task}/")[2]


def load_run(folder: records.PathLike, name: str = "") -> Run:
    """Read one OUTPUT_DIR.

    Raises:
        ValueError: the folder does not exist, or has neither metrics nor a measured imbalance.
    """
    path = Path(folder)
    if not path.is_dir():
        raise ValueError(f"{path} is not a folder; give the OUTPUT_DIR of a run")
    run = Run(name=name or path.resolve().name, folder=path)
    run.config = _read_yaml(path / "config.yaml")
    run.metrics = read_metrics(path / "metrics.json")
    run.meta = records.read_meta(path)
    run.steps = records.read_steps(path)
    run.detections = _read_detections(path)
    run.ground_truth = _find_set(run.meta, "test")
    run.train_set = _find_set(run.meta, "train")
    if not run.metrics and not run.steps:
        raise ValueError(
            f"{path} has neither metrics.json nor {records.FOLDER}/{records.STEPS_FILE};"
            " is it the OUTPUT_DIR of a run?"
        )
    return run


def load_runs(folders: list[records.PathLike], names: list[str] | None = None) -> list[Run]:
    """Read several OUTPUT_DIRs; equal names get their parent folder in front, or a number.

    Runs evaluated on one data set lend each other the place of its annotations.

    Raises:
        ValueError: as in :func:`load_run`, or as many names as folders are wanted.
    """
    if names and len(names) != len(folders):
        raise ValueError(f"{len(names)} names for {len(folders)} runs")
    runs = [load_run(folder, names[i] if names else "") for i, folder in enumerate(folders)]
    for run in runs:
        if sum(r.name == run.name for r in runs) > 1:
            run.name = f"{run.folder.resolve().parent.name}/{run.name}"
    for i, run in enumerate(runs):
        if any(r.name == run.name for r in runs[:i]):
            run.name = f"{run.name} ({i + 1})"
    known = [r for r in runs if r.ground_truth is not None]
    for run in runs:
        if run.ground_truth is None and known:
            run.ground_truth = known[0].ground_truth
            run.train_set = run.train_set or known[0].train_set
    return runs


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Lines of a ``metrics.json``; of an iteration that a resumed run wrote again, the last."""
    lines: dict[int, dict[str, Any]] = {}
    if path.is_file():
        for text in path.read_text(encoding="utf-8").splitlines():
            try:
                line = json.loads(text)
                lines.setdefault(int(line.get("iteration", -1)), {}).update(line)
            except (json.JSONDecodeError, AttributeError, TypeError, ValueError):
                continue
    return [lines[k] for k in sorted(lines)]


def _read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping; empty if there is none, or if it is more than plain YAML."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}


def _read_detections(folder: Path) -> list[dict[str, Any]] | None:
    """The newest COCO result file below ``inference``."""
    files = sorted(
        folder.glob("inference/**/coco_instances_results.json"), key=lambda p: p.stat().st_mtime
    )
    if not files:
        return None
    content = read_json(str(files[-1]))
    return content if isinstance(content, list) else None


def _find_set(meta: dict[str, Any], split: str) -> Split | None:
    """The first set of a split whose annotation file still exists."""
    for entry in meta.get("datasets", {}).get(split, []):
        if entry.get("json_file") and Path(entry["json_file"]).is_file():
            json_file = entry["json_file"]
            root = entry.get("image_root") or os.path.dirname(json_file)
            return coco_file(split, json_file, (root,))
    return None
