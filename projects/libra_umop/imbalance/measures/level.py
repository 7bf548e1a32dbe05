"""Level imbalance: positives per pyramid level, and the focus UMOP gives each level.

UMOP (arXiv 2109.07217): gamma_l = clamp(-ln(mean p of the level's positives), gamma - delta,
gamma + delta), alpha_l = w / gamma_l. At gamma 2, delta .5, gamma_l moves only while the mean p
is in [.082, .223].
"""

from typing import Any

import numpy as np

DEFAULT_FOCUS = {"gamma": 2.0, "delta": 0.5, "w": 0.5, "formula": "mean_prob", "level_wise": True}


def free_range(gamma: float, delta: float) -> tuple[float, float]:
    """The interval of mean p in which gamma_l is not clipped."""
    return float(np.exp(-(gamma + delta))), float(np.exp(-(gamma - delta)))


def measure_level(
    steps: list[dict[str, Any]],
    head: str,
    levels: list[str],
    focus: dict[str, Any] | None = None,
) -> dict[str, Any] | None:
    """Positives, probabilities and focus of each level.

    Args:
        steps: see :mod:`libra_umop.imbalance.records`.
        head: "dense" or "rpn".
        levels: names of its levels, finest first, L of them.
        focus: gamma, delta, w, ``formula`` ("mean_prob", or "mean_log" of the reference code) and
            ``level_wise`` of the run, or UMOP's defaults.

    Returns:
        ``levels``, ``iterations`` (S), ``rates`` (S x L, positives over anchors), ``rate``,
        ``positives`` and ``anchors`` (L, over all steps), ``mean_p`` (L, None without positives),
        ``gamma``, ``alpha`` (S x L; None where a level has no positive), ``clipped`` (L, share of
        the steps with positives in which gamma_l is at a limit; None if there was none),
        ``clipped_all``, ``gradient_positives`` and ``gradient_negatives`` (L, mean part of the
        classification gradient), ``focus``. None if no step has such a section.
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
        **_gradient_parts([s for _, s in sections]),
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


def _gradient_parts(sections: list[dict[str, Any]]) -> dict[str, list[float] | None]:
    """Mean over steps of each level's part of the classification gradient."""
    parts: dict[str, list[float] | None] = {}
    for name in ("gradient_positives", "gradient_negatives"):
        rows = [s[name] for s in sections if s.get(name)]
        parts[name] = np.mean(rows, axis=0).tolist() if rows else None
    return parts
