"""Boxes that are no ``[x, y, width, height]`` in pixels, told by all boxes of a file together.

A single box says little: ``[8, 8, 48, 38]`` may be either. But boxes of another convention, read as
COCO's, reach far out of their images, while read as their own they all lie inside.
"""

from collections.abc import Callable, Sequence

import numpy as np

# A corner may be this far outside of its image, in pixels, as annotation tools differ.
TOLERANCE_PX = 1.5
# Reaching out by less than this part of the box is careless drawing, not another convention.
FAR = 0.1
FAR_PX = 3.0
# How many boxes must reach far out: so many and such a part of all, one pair or the other. The
# first pair is for two corners only, which boxes of another convention hardly ever look like.
EVIDENCE = ((2, 0.2), (5, 0.05), (20, 0.01))
# That two reach out is enough for centres, too, where it is a tenth of at least ten boxes: each box
# within half its size of the left or upper edge would speak against them.
CENTRES_BOXES, CENTRES_PART = 10, 0.1
CENTRES = "[centre x, centre y, width, height]"
CORNERS = ("[x1, y1, x2, y2]", "[y1, x1, y2, x2]", "[x1, x2, y1, y2]")
# Of those that do not fit COCO's convention, this part may not fit the other one either.
MISFITS = 0.1
# Boxes that are all within 1 of the corner are fractions of the image; so are those within 100 of
# it in images of at least 300 pixels if they are many and spread over that range.
LIMIT = 1.01
NEARLY_ALL = 0.98
PERCENT_SPREAD, PERCENT_BOXES, PERCENT_SIDE_PX = 50, 20, 300

# Numbers from here on are no coordinates of any convention.
LARGEST = 1e9

COCOS = "[x, y, width, height]"

Corners = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # x1, y1, x2, y2, each (N,)

# How the four numbers of a box of each convention become its corners.
OTHERS: dict[str, Callable[..., Corners]] = {
    "[x1, y1, x2, y2]": lambda a, b, c, d: (a, b, c, d),
    CENTRES: lambda a, b, c, d: (
        a - c / 2,
        b - d / 2,
        a + c / 2,
        b + d / 2,
    ),
    "[y, x, height, width]": lambda a, b, c, d: (b, a, b + d, a + c),
    "[y1, x1, y2, x2]": lambda a, b, c, d: (b, a, d, c),
    "[x1, x2, y1, y2]": lambda a, b, c, d: (a, c, b, d),
}


def other_convention(
    boxes: Sequence[Sequence[float]], sizes: Sequence[Sequence[int]]
) -> str | None:
    """What the boxes of a file look like, if not like COCO's; None if like these, or undecided.

    Args:
        boxes: (N, 4), as they stand in the file.
        sizes: (N, 2), width and height of the image of each, in pixels.

    Returns:
        words that follow "the boxes look like".
    """
    values = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    images = np.asarray(sizes, dtype=np.float64).reshape(-1, 2)
    known = (np.abs(values) < LARGEST).all(axis=1)  # false for NaN
    values, images = values[known], images[known]
    if not len(values):
        return None
    return _fractions(values, images) or _other_order(values, images)


def _fractions(values: np.ndarray, images: np.ndarray) -> str | None:
    largest = np.abs(values).max(axis=1)
    real = largest > 0
    whole, words = 1, "fractions of the image's width and height, 0 to 1"
    if not real.any() or images.min() <= 2 or (largest[real] <= LIMIT).mean() < NEARLY_ALL:
        whole, words = 100, "per cent of the image's width and height, 0 to 100"
        if not _are_per_cent(values, images):
            return None
    in_pixels = values / whole * np.tile(images, 2)
    return f"{_other_order(in_pixels, images) or COCOS} in {words}"


def _are_per_cent(values: np.ndarray, images: np.ndarray) -> bool:
    in_large = images.min(axis=1) >= PERCENT_SIDE_PX
    if in_large.sum() < PERCENT_BOXES or (values < -1).any() or (values > 100 * LIMIT).any():
        return False
    return bool((np.quantile(values[in_large, :2], 0.9, axis=0) > PERCENT_SPREAD).all())


def _other_order(values: np.ndarray, images: np.ndarray) -> str | None:
    x, y, w, h = values.T
    over_x, over_y = x + w - images[:, 0], y + h - images[:, 1]
    far = (over_x > np.maximum(FAR_PX, FAR * w)) | (over_y > np.maximum(FAR_PX, FAR * h))
    num_far = int(far.sum())
    enough = [num_far >= count and num_far >= part * len(values) for count, part in EVIDENCE]
    few = num_far >= max(2, CENTRES_PART * len(values)) and len(values) >= CENTRES_BOXES
    candidates = [*CORNERS * enough[0], *[CENTRES] * few]
    if any(enough[1:]):
        candidates = list(OTHERS)
    misfits = {name: _num_misfits(OTHERS[name](*values.T), images) for name in candidates}
    best = min(misfits, key=lambda name: misfits[name], default=None)
    return best if best and misfits[best] <= MISFITS * num_far else None


def _num_misfits(corners: Corners, images: np.ndarray) -> int:
    x1, y1, x2, y2 = corners
    fits = (x2 > x1) & (y2 > y1) & (np.minimum(x1, y1) >= -TOLERANCE_PX)
    fits &= (x2 <= images[:, 0] + TOLERANCE_PX) & (y2 <= images[:, 1] + TOLERANCE_PX)
    return int((~fits).sum())
