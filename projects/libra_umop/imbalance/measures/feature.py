"""Feature level: what each pyramid level gives to and gets from the integrated feature.

Libra R-CNN, section 3.2: C = 1/L sum_l C_l over the levels rescaled to one size. The part of
level l in C is <C_l, C> / (L <C, C>): the parts sum to 1, and each is 1/L when all levels say the
same equally loud.
"""

from typing import Any, TypedDict

import numpy as np

from ..report.run import Run


class FeatureMeasure(TypedDict):
    """Lists over ``levels``, means over the steps; None where it was not measured.

    ``after`` and ``gain`` are None without BFP. ``ratio`` is the largest share over the smallest,
    inf if one is not positive.
    """

    levels: list[str]
    before: list[float] | None
    after: list[float] | None
    share: list[float] | None
    cosine: list[float] | None
    gain: list[float] | None
    ratio: float


def measure(run: Run) -> FeatureMeasure | None:
    """What :func:`measure_feature` says of a run."""
    return measure_feature(run.steps)


def measure_feature(steps: list[dict[str, Any]]) -> FeatureMeasure | None:
    """Mean per level over all measured iterations.

    Args:
        steps: see :mod:`libra_umop.imbalance.records`.

    Returns:
        See :class:`FeatureMeasure`; None if no step has a "feature" section.
    """
    sections = [s["feature"] for s in steps if s.get("feature")]
    if not sections:
        return None
    levels = sections[-1]["levels"]
    sections = [s for s in sections if s["levels"] == levels]
    share = _mean(sections, "share")
    low, high = (min(share), max(share)) if share else (float("nan"), float("nan"))
    return {
        "levels": levels,
        "before": _mean(sections, "before"),
        "after": _mean(sections, "after"),
        "share": share,
        "cosine": _mean(sections, "cosine"),
        "gain": _mean(sections, "gain"),
        "ratio": high / low if low > 0 else float("inf"),
    }


def _mean(sections: list[dict[str, Any]], name: str) -> list[float] | None:
    """Mean over the sections that have ``name`` for every level; None without any."""
    rows = [s[name] for s in sections if s.get(name) and None not in s[name]]
    return np.mean(rows, axis=0).tolist() if rows else None
