"""Everything that is measured of one run, in one dict: what the JSON holds and the figures show."""

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

from ...data.coco.parsing import refuse
from ...data.defects import Defect
from ...levers import LEVERS, active, levers_for, switch
from ..report.run import Run
from .data import read_coco
from .detections import measure_detections


def measure_run(
    run: Run, measures: Mapping[str, Callable[[Run], Any]], *, min_score: float = 0.5
) -> dict[str, Any]:
    """Measure one run.

    Args:
        run: see :func:`libra_umop.imbalance.report.run.load_run`.
        measures: what measures each imbalance, by the name of the imbalance.
        min_score: see :func:`libra_umop.imbalance.measures.detections.measure_detections`.

    Returns:
        ``name``, ``detector``, ``settings``, ``levers`` (names of those that are on) and
        ``switches`` {name: [[KEY, value], ...]} of those that are not but could be, what each of
        ``measures`` gives under its name, ``detections``, ``AP`` (the last evaluation) and
        ``collection``; a part that was not measured is None or empty.
    """
    return {
        "name": run.name,
        "detector": run.meta.get("detector")
        or run.config.get("MODEL", {}).get("META_ARCHITECTURE"),
        "settings": run.settings,
        "levers": active(run.config),
        "switches": find_switches(run.config),
        **{name: measure(run) for name, measure in measures.items()},
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


def _detections(run: Run, min_score: float) -> dict[str, Any] | None:
    """The last evaluation's detections, where they and their ground truth are there."""
    if not run.detections or run.ground_truth is None:
        return None
    truth = read_coco(run.ground_truth)
    for key, section in (("image_id", "images"), ("category_id", "categories")):
        unknown = {d.get(key) for d in run.detections} - {entry["id"] for entry in truth[section]}
        if unknown:
            of_run = f"which {run.folder} has detections of; give the data it was evaluated on"
            message = f"has no {key} {min(unknown, key=str)}, {of_run}"
            refuse(run.ground_truth.source, [Defect(f"other_{key}", message)])
    return measure_detections(truth, run.detections, min_score=min_score)


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
