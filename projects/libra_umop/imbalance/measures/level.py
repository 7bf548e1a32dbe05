"""Level imbalance: positives per pyramid level, and the focus UMOP gives each level.

UMOP (arXiv 2109.07217): gamma_l = clamp(-ln(mean p of the level's positives), gamma - delta,
gamma + delta), alpha_l = w / gamma_l. At gamma 2, delta .5, gamma_l moves only while the mean p
is in [.082, .223].
"""

from typing import Any, TypedDict

import numpy as np

from ..report.run import Run

DEFAULT_FOCUS = {"gamma": 2.0, "delta": 0.5, "w": 0.5, "formula": "mean_prob", "level_wise": True}
HEADS = ("dense", "rpn")


class LevelMeasure(TypedDict):
    """Positives, probabilities and focus of the L levels of a head, over S measured iterations.

    Attributes:
        levels: their names, finest first.
        focus: see :func:`measure_level`.
        iterations: (S).
        rates: positives over anchors, (S, L); ``rate``, ``positives``, ``anchors`` (L): over all S.
        mean_p: of the positives (L), None without any.
        gamma, alpha: (S, L), None where a level has no positive.
        clipped: share of the steps with positives in which gamma_l is at a limit (L); None if
            there was none. ``clipped_all``: of all levels together.
        gradient_positives, gradient_negatives: mean part of the classification gradient (L).
    """

    levels: list[str]
    focus: dict[str, Any]
    iterations: list[int]
    rates: list[list[float]]
    rate: list[float]
    positives: list[float]
    anchors: list[float]
    mean_p: list[float | None]
    gamma: list[list[float | None]]
    alpha: list[list[float | None]]
    clipped: list[float | None]
    clipped_all: float | None
    gradient_positives: list[float] | None
    gradient_negatives: list[float] | None


def measure(run: Run) -> dict[str, LevelMeasure]:
    """What :func:`measure_level` says of each head of a run that was measured."""
    heads: dict[str, LevelMeasure] = {}
    for head in HEADS:
        names = run.meta.get("levels", {}).get(head)
        focus = run.settings["focus"] if head == "dense" else None
        found = measure_level(run.steps, head, names, focus) if names else None
        if found:
            heads[head] = found
    return heads


def free_range(gamma: float, delta: float) -> tuple[float, float]:
    """The interval of mean p in which gamma_l is not clipped."""
    return float(np.exp(-(gamma + delta))), float(np.exp(-(gamma - delta)))


def measure_level(
    steps: list[dict[str, Any]],
    head: str,
    levels: list[str],
    focus: dict[str, Any] | None = None,
) -> LevelMeasure | None:
    """Positives, probabilities and focus of each level.

    Args:
        steps: see :mod:`libra_umop.imbalance.records`.
        head: "dense" or "rpn".
        levels: names of its levels, finest first, L of them.
        focus: gamma, delta, w, ``formula`` ("mean_prob", or "mean_log" of the reference code) and
            ``level_wise`` of the run, or UMOP's defaults.

    Returns:
        See :class:`LevelMeasure`; None if no step has such a section.
    """
    sections = [(s["iteration"], s["level"][head]) for s in steps if head in s.get("level", {})]
    sections = [(i, s) for i, s in sections if len(s["anchors"]) == len(levels)]
    if not sections:
        return None
    focus = {**DEFAULT_FOCUS, **{k: v for k, v in (focus or {}).items() if v is not None}}
    table = {
        name: np.asarray([s[name] for _, s in sections], dtype=float)
        for name in ("anchors", "positives", "p_sum", "neg_log_p_sum")
    }  # each (S, L)
    gamma, clipped = level_gammas(table, focus)
    has = table["positives"] > 0
    total = {name: values.sum(axis=0) for name, values in table.items()}
    return {
        "levels": levels,
        "focus": focus,
        "iterations": [i for i, _ in sections],
        "rates": (table["positives"] / np.maximum(table["anchors"], 1)).tolist(),
        "rate": (total["positives"] / np.maximum(total["anchors"], 1)).tolist(),
        "positives": total["positives"].tolist(),
        "anchors": total["anchors"].tolist(),
        "mean_p": _ratio(total["p_sum"], total["positives"]),
        "gamma": _nan_to_none(gamma),
        "alpha": _nan_to_none(focus["w"] / gamma),
        "clipped": _ratio((clipped & has).sum(axis=0), has.sum(axis=0)),
        "clipped_all": _ratio(np.array([(clipped & has).sum()]), np.array([has.sum()]))[0],
        "gradient_positives": _gradient_part(sections, "gradient_positives"),
        "gradient_negatives": _gradient_part(sections, "gradient_negatives"),
    }


def level_gammas(
    table: dict[str, np.ndarray], focus: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """gamma_l of each step, and where it is clipped.

    Args:
        table: ``positives``, ``p_sum``, ``neg_log_p_sum``, each (S, L).
        focus: see :func:`measure_level`; without ``level_wise`` one gamma serves all levels.

    Returns:
        gamma (S, L), NaN where the level has no positive; clipped (S, L), bool.
    """
    count, p, log_p = table["positives"], table["p_sum"], table["neg_log_p_sum"]
    has = count > 0
    if not focus["level_wise"]:
        count, p, log_p = (
            np.repeat(x.sum(1, keepdims=True), x.shape[1], 1) for x in (count, p, log_p)
        )
    safe = np.maximum(count, 1)
    is_mean_log = focus["formula"] == "mean_log"
    free = log_p / safe if is_mean_log else -np.log(np.maximum(p / safe, 1e-12))
    low, high = focus["gamma"] - focus["delta"], focus["gamma"] + focus["delta"]
    gamma = np.where(has, np.clip(free, low, high), np.nan)
    return gamma, (free <= low) | (free >= high)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> list[float | None]:
    """Elementwise quotient, None where the denominator is zero."""
    return [float(n / d) if d > 0 else None for n, d in zip(numerator, denominator, strict=True)]


def _nan_to_none(values: np.ndarray) -> list[list[float | None]]:
    """Nested lists of a 2-D array."""
    return [[None if np.isnan(v) else float(v) for v in row] for row in values]


def _gradient_part(sections: list[tuple[int, dict[str, Any]]], name: str) -> list[float] | None:
    """Mean over the steps that have it of each level's part of the classification gradient."""
    rows = [s[name] for _, s in sections if s.get(name)]
    return np.mean(rows, axis=0).tolist() if rows else None
