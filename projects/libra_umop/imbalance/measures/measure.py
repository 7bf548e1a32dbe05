"""Everything that is measured of one run, in one dict: what the JSON holds and the figures show."""

from itertools import pairwise
from typing import Any

from ...levers import LEVERS, active, levers_for, switch
from ..report.run import Run
from .data import measure_data, read_coco
from .detections import measure_detections
from .feature import measure_feature
from .level import measure_level
from .objective import inlier_curve, measure_objective
from .sample import measure_sample

HEADS = ("dense", "rpn")


def measure_run(run: Run, *, min_score: float = 0.5) -> dict[str, Any]:
    """Measure one run.

    Args:
        run: see :func:`libra_umop.imbalance.report.run.load_run`.
        min_score: see :func:`libra_umop.imbalance.measures.detections.measure_detections`.

    Returns:
        ``name``, ``detector``, ``settings``, ``levers`` (names of those that are on) and
        ``switches`` {name: [[KEY, value], ...]} of those that are not but could be, ``sample``,
        ``feature``, ``objective`` {head: ...} with a ``curve`` each, ``level`` {head: ...},
        ``data``, ``detections``, ``AP`` (the last evaluation) and ``collection``; a part that was
        not measured is None or empty.
    """
    settings = run.settings
    objective = measure_objective(run.steps, settings["box_losses"])
    for head, entry in objective.items():
        curve = inlier_curve(run.steps, head, entry["threshold"])
        entry["curve"] = curve.tolist() if curve is not None else None
    level: dict[str, dict[str, Any]] = {}
    for head in HEADS:
        names = run.meta.get("levels", {}).get(head)
        focus = settings["focus"] if head == "dense" else None
        found = measure_level(run.steps, head, names, focus) if names else None
        if found:
            level[head] = found
    return {
        "name": run.name,
        "detector": run.meta.get("detector")
        or run.config.get("MODEL", {}).get("META_ARCHITECTURE"),
        "settings": settings,
        "levers": active(run.config),
        "switches": find_switches(run.config),
        "sample": measure_sample(run.steps),
        "feature": measure_feature(run.steps),
        "objective": objective,
        "level": level,
        "data": _data(run),
        "detections": _detections(run, min_score),
        "AP": run.final_metrics(),
        "collection": _collection(run.steps),
    }


def find_switches(config: dict[str, Any]) -> dict[str, list[list[str]]]:
    """What switches on each lever that is off, by its name; values as on a command line.

    Args:
        config: the whole config of the run, as nested dicts; empty for an unknown one.
    """
    names = [lever.name for lever in levers_for(config) if not LEVERS[lever.name].is_on(config)]
    return {name: [[k, str(v)] for k, v in switch(config, name)] for name in names}


def _data(run: Run) -> dict[str, Any] | None:
    """The training set, at the scale and with the levels of the run."""
    if run.train_set is None:
        return None
    head = next((h for h in HEADS if h in run.meta.get("levels", {})), "")
    return measure_data(
        read_coco(run.train_set),
        levels=run.meta.get("levels", {}).get(head),
        anchor_sizes=run.meta.get("anchor_sizes", {}).get(head),
        min_size=run.meta.get("min_size"),
        max_size=run.meta.get("max_size") or 0,
    )


def _detections(run: Run, min_score: float) -> dict[str, Any] | None:
    """The last evaluation's detections, where they and their ground truth are there."""
    if not run.detections or run.ground_truth is None:
        return None
    return measure_detections(read_coco(run.ground_truth), run.detections, min_score=min_score)


def _collection(steps: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Number of measured steps, the period, and the share of training time that measuring took."""
    if not steps:
        return None
    iterations = [s["iteration"] for s in steps]
    gaps = sorted(b - a for a, b in pairwise(iterations))
    period = gaps[len(gaps) // 2] if gaps else 1
    measuring = sum(s.get("seconds") or 0.0 for s in steps)
    training = sum((s.get("step_seconds") or 0.0) - (s.get("seconds") or 0.0) for s in steps)
    return {
        "steps": len(steps),
        "period": period,
        "first": iterations[0],
        "last": iterations[-1],
        "share_of_measured_steps": measuring / training if training > 0 else None,
        "share_of_training": measuring / training / period if training > 0 else None,
    }
