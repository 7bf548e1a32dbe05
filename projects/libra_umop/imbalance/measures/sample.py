"""Sample level: which negatives the head learns from (Libra R-CNN, section 3.1).

The paper: over 60 % of hard negatives overlap an object by more than IoU 0.05, of random picks 30
%.
"""

from typing import Any, TypedDict

import numpy as np

from ..report.run import Run

KINDS = ("all", "random", "picked", "hard")
LOW_IOU = 0.05


class IoUHistogram(TypedDict):
    """``histogram`` sums to 1 (zeros if there were none); ``count`` is how many there were."""

    histogram: list[float]
    share_above: float
    count: float


class SampleMeasure(TypedDict):
    """A histogram for each of :data:`KINDS`; ``hard_among`` is "all" or "picked"."""

    hard_among: str
    all: IoUHistogram
    random: IoUHistogram
    picked: IoUHistogram
    hard: IoUHistogram


def measure(run: Run) -> SampleMeasure | None:
    """What :func:`measure_sample` says of a run."""
    return measure_sample(run.steps)


def share_above(histogram: np.ndarray, iou: float = LOW_IOU) -> float:
    """Share of a histogram over [0, 1] that lies above ``iou``, which is an edge of its bins.

    Returns:
        A number in [0, 1]; NaN for an empty histogram.
    """
    total = float(histogram.sum())
    first = int(round(iou * len(histogram)))
    return float(histogram[first:].sum()) / total if total > 0 else float("nan")


def measure_sample(steps: list[dict[str, Any]]) -> SampleMeasure | None:
    """IoU histograms of negatives over all measured iterations.

    Args:
        steps: see :mod:`libra_umop.imbalance.records`.

    Returns:
        See :class:`SampleMeasure`; None if no step has a "sample" section.
    """
    sections = [s["sample"] for s in steps if s.get("sample")]
    if not sections:
        return None
    total = {kind: np.sum([s[kind] for s in sections], axis=0, dtype=float) for kind in KINDS}
    return {
        "hard_among": sections[-1].get("hard_among", "all"),
        "all": _histogram(total["all"]),
        "random": _histogram(total["random"]),
        "picked": _histogram(total["picked"]),
        "hard": _histogram(total["hard"]),
    }


def _histogram(total: np.ndarray) -> IoUHistogram:
    """The record of the counts of one kind, a number a bin."""
    return {
        "histogram": (total / max(total.sum(), 1e-12)).tolist(),
        "share_above": share_above(total),
        "count": float(total.sum()),
    }
