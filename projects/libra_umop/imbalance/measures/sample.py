"""Sample level: which negatives the head learns from (Libra R-CNN, section 3.1).

The paper: over 60 % of hard negatives overlap an object by more than IoU 0.05, of random picks 30
%.
"""

from typing import Any

import numpy as np

from ..records import NUM_IOU_BINS

KINDS = ("all", "random", "picked", "hard")
LOW_IOU = 0.05


def share_above(histogram: np.ndarray, iou: float = LOW_IOU) -> float:
    """Share of a histogram over [0, 1] that lies above ``iou``, which is an edge of its bins.

    Returns:
        A number in [0, 1]; NaN for an empty histogram.
    """
    total = float(histogram.sum())
    first = int(round(iou * len(histogram)))
    return float(histogram[first:].sum()) / total if total > 0 else float("nan")


def measure_sample(steps: list[dict[str, Any]]) -> dict[str, Any] | None:
    """IoU histograms of negatives over all measured iterations.

    Args:
        steps: see :mod:`libra_umop.imbalance.records`.

    Returns:
        For each of :data:`KINDS` ``histogram`` (sum 1, zeros if there were none), ``share_above``
        and ``count``; ``hard_among``; None if no step has a "sample" section.
    """
    sections = [s["sample"] for s in steps if s.get("sample")]
    if not sections:
        return None
    result: dict[str, Any] = {"hard_among": sections[-1].get("hard_among", "all")}
    for kind in KINDS:
        total = np.zeros(NUM_IOU_BINS)
        for section in sections:
            total += np.asarray(section[kind], dtype=float)
        result[kind] = {
            "histogram": (total / max(total.sum(), 1e-12)).tolist(),
            "share_above": share_above(total),
            "count": float(total.sum()),
        }
    return result
