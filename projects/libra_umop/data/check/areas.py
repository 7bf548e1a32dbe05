"""COCO's small, medium and large objects: one rule for every count of them."""

from collections.abc import Iterable

import numpy as np

__all__ = ["LIMITS", "count_areas"]

# Square pixels of the original image. pycocotools' ``Params.areaRng`` has them as closed ranges, so
# that its evaluation takes an object on a limit into both; a count takes it once, into the larger.
LIMITS = (32**2, 96**2)


def count_areas(areas: Iterable[float]) -> dict[str, int]:
    """How many objects are small, medium and large.

    Args:
        areas: of the annotations (their ``area``, which is a mask's where there is one), in square
            pixels of the original image.

    Returns:
        ``small`` (below 32^2), ``medium`` (32^2 to below 96^2) and ``large`` (96^2 and above).
    """
    values = np.fromiter(areas, dtype=np.float64)
    counts = np.bincount(np.searchsorted(LIMITS, values, side="right"), minlength=3)
    return dict(zip(("small", "medium", "large"), counts.tolist(), strict=True))
