"""Feature level: what each pyramid level gives to and gets from the integrated feature.

Libra R-CNN, section 3.2: C = 1/L sum_l C_l over the levels rescaled to one size. The part of
level l in C is <C_l, C> / (L <C, C>): the parts sum to 1, and each is 1/L when all levels say the
same equally loud.
"""

from typing import Any

import numpy as np

PER_LEVEL = ("before", "after", "share", "cosine", "gain")


def measure_feature(steps: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Mean per level over all measured iterations.

    Args:
        steps: see :mod:`libra_umop.imbalance.records`.

    Returns:
        ``levels`` and, each a list over them or None where it was not measured (``after`` and
        ``gain`` without BFP): ``before``, ``after``, ``share``, ``cosine``, ``gain``; ``ratio``,
        the largest share over the smallest (inf if one is not positive). None if no step has a
        "feature" section.
    """
    sections = [s["feature"] for s in steps if s.get("feature")]
    if not sections:
        return None
    levels = sections[-1]["levels"]
    sections = [s for s in sections if s["levels"] == levels]
    result: dict[str, Any] = {"levels": levels}
    for name in PER_LEVEL:
        rows = [s[name] for s in sections if s.get(name) and None not in s[name]]
        result[name] = np.mean(rows, axis=0).tolist() if rows else None
    share = result["share"] or [float("nan")]
    result["ratio"] = max(share) / min(share) if min(share) > 0 else float("inf")
    return result
