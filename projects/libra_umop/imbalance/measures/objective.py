"""Objective level: how much of the box gradient inliers and outliers give.

Libra R-CNN, section 3.3. x is a coordinate's error in the head's own units; |x| at or above the
transition point is an outlier. The paper: under smooth L1, inliers give 30 % of the gradient.
"""

from typing import Any, TypedDict

import numpy as np

from ..records import ERROR_EDGES, NUM_ERROR_BINS
from ..report.run import Run

COORDINATE_LOSSES = ("smooth_l1", "balanced_l1")


class ObjectiveMeasure(TypedDict):
    """Inliers and outliers of one head, over all measured iterations.

    Attributes:
        loss: the run's settings of its box loss; ``threshold``: where inliers end under it.
        count, gradient: histograms over the error bins, sum 1.
        inliers, gradient_inliers: their share of the coordinates, and of the gradient.
        balanced_l1: what that share would be with alpha .5, gamma 1.5 on the same errors.
        curve: iterations, and the inliers' share of the gradient in each.
    """

    loss: dict[str, Any]
    threshold: float
    count: list[float]
    gradient: list[float]
    inliers: float
    gradient_inliers: float
    balanced_l1: float
    curve: list[list[float]]


def measure(run: Run) -> dict[str, ObjectiveMeasure]:
    """What :func:`measure_objective` says of a run."""
    return measure_objective(run.steps, run.settings["box_losses"])


def transition(loss: dict[str, Any]) -> float:
    """Where inliers end under ``loss``: its beta, or 1 (the papers') where it has none."""
    beta = loss.get("beta") or 0.0
    return float(beta) if loss.get("type") in COORDINATE_LOSSES and beta > 0 else 1.0


def gradient(x: np.ndarray, loss: dict[str, Any]) -> np.ndarray:
    """|dL/dx| of a coordinate loss at errors ``x`` >= 0.

    Args:
        x: errors, any shape.
        loss: ``type`` "smooth_l1" (``beta`` 0 is L1) or "balanced_l1" (``beta``, ``alpha``,
        ``gamma``):
            b = exp(gamma / alpha) - 1; alpha ln(b x / beta + 1) below beta, gamma from there.

    Raises:
        ValueError: for another ``type``.
    """
    beta = max(float(loss.get("beta") or 0.0), 1e-9)
    if loss.get("type") == "smooth_l1":
        return np.minimum(x / beta, 1.0)
    if loss.get("type") == "balanced_l1":
        alpha, gamma = float(loss["alpha"]), float(loss["gamma"])
        b = np.expm1(gamma / alpha)
        return np.where(x < beta, alpha * np.log1p(b * np.minimum(x / beta, 1.0)), gamma)
    raise ValueError(
        f"type of box loss is {loss.get('type')!r}, should be one of {COORDINATE_LOSSES}"
    )


def value(x: np.ndarray, loss: dict[str, Any]) -> np.ndarray:
    """L(x) of a coordinate loss: the integral of :func:`gradient` from 0, by the trapezoid rule.

    Args:
        x: errors, 1-D, ascending from 0.
        loss: as in :func:`gradient`.
    """
    slope = gradient(x, loss)
    parts = (slope[1:] + slope[:-1]) / 2 * np.diff(x)
    return np.concatenate([[0.0], np.cumsum(parts)])


def share_below(weights: np.ndarray, threshold: float) -> float:
    """Share of a histogram over the error bins below ``threshold``, linear inside a bin.

    Returns:
        A number in [0, 1]; NaN for an empty histogram.
    """
    total = float(weights.sum())
    if total <= 0:
        return float("nan")
    cumulative = np.concatenate([[0.0], np.cumsum(weights[:NUM_ERROR_BINS])])
    return float(np.interp(threshold, ERROR_EDGES, cumulative)) / total


def predicted_share(count: np.ndarray, loss: dict[str, Any], threshold: float) -> float:
    """What share of the gradient errors below ``threshold`` would give under ``loss``."""
    edges = np.asarray(ERROR_EDGES)
    centres = np.concatenate([(edges[1:] + edges[:-1]) / 2, [edges[-1] * 2]])
    return share_below(count * gradient(centres, loss), threshold)


def measure_objective(
    steps: list[dict[str, Any]], box_losses: dict[str, dict[str, Any]]
) -> dict[str, ObjectiveMeasure]:
    """Inliers and outliers per head over all measured iterations.

    Args:
        steps: see :mod:`libra_umop.imbalance.records`.
        box_losses: the run's ``settings["box_losses"]``.

    Returns:
        a record for each head that was measured.
    """
    heads: dict[str, ObjectiveMeasure] = {}
    for head in sorted({h for s in steps for h in s.get("objective", {})}):
        sections = [s["objective"][head] for s in steps if head in s.get("objective", {})]
        count = np.sum([s["count"] for s in sections], axis=0, dtype=float)
        grad = _mean_gradient(sections)
        if count.sum() <= 0:
            continue
        loss = box_losses.get(head.split("_stage")[0], {"type": None})  # all stages have the same
        threshold = transition(loss)
        balanced = {"type": "balanced_l1", "beta": threshold, "alpha": 0.5, "gamma": 1.5}
        heads[head] = {
            "loss": loss,
            "threshold": threshold,
            "count": (count / count.sum()).tolist(),
            "gradient": grad.tolist(),
            "inliers": share_below(count, threshold),
            "gradient_inliers": share_below(grad, threshold),
            "balanced_l1": predicted_share(count, balanced, threshold),
            "curve": inlier_curve(steps, head, threshold),
        }
    return heads


def _mean_gradient(sections: list[dict[str, Any]]) -> np.ndarray:
    """Gradient histogram (sum 1) over steps, each weighted by its number of coordinates."""
    total = np.zeros(NUM_ERROR_BINS + 1)
    for section in sections:
        total += np.asarray(section["gradient"], dtype=float) * float(np.sum(section["count"]))
    return total / max(total.sum(), 1e-12)


def inlier_curve(steps: list[dict[str, Any]], head: str, threshold: float) -> list[list[float]]:
    """The measured iterations, and the share of the gradient from inliers in each."""
    sections = [
        (s["iteration"], s["objective"][head]) for s in steps if head in s.get("objective", {})
    ]
    shares = [share_below(np.asarray(s["gradient"], dtype=float), threshold) for _, s in sections]
    return [[float(i) for i, _ in sections], shares]
