"""What makes the box and the area of one annotation usable."""

import math
from collections.abc import Sequence
from typing import Any

from ..defects import short
from .values import as_float, is_number

# A box may reach this far over the image's edge, in pixels, before that counts as a defect:
# annotation tools disagree about where the last pixel ends.
EDGE_TOLERANCE_PX = 1.0
# Thinner boxes vanish when the image is resized.
MIN_SIZE_PX = 1e-3


def box_type_problem(annotation: dict) -> tuple[str, str] | None:
    """Kind and message if ``bbox`` is not a list of four numbers; else None."""
    want = "should be [x, y, width, height]"
    if "bbox" not in annotation:
        return "bbox_missing", f'has no "bbox"; {want}'
    bbox = annotation["bbox"]
    if not isinstance(bbox, list):
        return "bbox_type", f'"bbox" is {short(bbox)}; {want}'
    if len(bbox) != 4:
        return "bbox_length", f'"bbox" has {len(bbox)} values, {short(bbox)}; {want}'
    if not all(is_number(v) for v in bbox):
        return "bbox_type", f'"bbox" is {short(bbox)}; {want} as four numbers'
    return None


def usable_box(
    bbox: Sequence[Any], width: int, height: int
) -> tuple[list[float] | None, str | None, str]:
    """Judge one box.

    Args:
        bbox: four numbers, XYWH in pixels.
        width, height: of the image, in pixels.

    Returns:
        the box to use, XYWH in pixels (None if unusable), the kind of its defect (None if it is
        sound) and a message.
    """
    x, y, w, h = numbers = [as_float(v) for v in bbox]
    if any(math.isnan(v) for v in numbers):
        return None, "bbox_nan", f"{_says(bbox)}; should be four finite numbers"
    if any(math.isinf(v) for v in (*numbers, x + w, y + h)):
        return None, "bbox_inf", f"{_says(bbox)}; should be four finite numbers"
    if w < 0 or h < 0:
        said = f"{_says(bbox)}; should be [x, y, width, height], sizes above 0"
        return None, "bbox_negative", said
    if w < MIN_SIZE_PX or h < MIN_SIZE_PX:
        return None, "bbox_zero", f"{_says(bbox)}; width and height should be above 0"
    x1, y1, x2, y2 = max(x, 0.0), max(y, 0.0), min(x + w, width), min(y + h, height)
    if x2 - x1 < MIN_SIZE_PX or y2 - y1 < MIN_SIZE_PX:
        return None, "bbox_outside", f"{_says(bbox)}, outside the image of {width} x {height}"
    over = max(-x, -y, x + w - width, y + h - height)
    if over > EDGE_TOLERANCE_PX:
        message = f"{_says(bbox)}, {over:g} px over the edge of the image of {width} x {height}"
        return [x1, y1, x2 - x1, y2 - y1], "bbox_clipped", message
    return numbers, None, ""


def _says(bbox: Sequence[Any]) -> str:
    return f"bbox is {short(list(bbox))}"


def usable_area(area: Any, bbox: Sequence[float]) -> float:
    """The file's area in square pixels if it is one, else that of the box.

    COCO's evaluation sorts objects into small, medium and large by it.
    """
    if is_number(area) and math.isfinite(as_float(area)) and area > 0:
        return area
    return bbox[2] * bbox[3]
