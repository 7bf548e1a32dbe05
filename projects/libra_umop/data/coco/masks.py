"""What makes the mask of one annotation usable: polygons, or a run-length encoding (RLE).

COCO's RLE counts the pixels of alternating runs, background first, down the columns of the image;
as a list, or as text of 6 bits a character (``rleToString`` of pycocotools).
"""

import ast
import math
from typing import Any

import numpy as np
import pycocotools.mask as mask_util

from ..defects import short
from .values import as_float, as_int, is_number, number_in_text

_MOST_CHARACTERS = 7  # of one count: 5 bits each, of at most 32
Judgement = tuple[Any | None, str | None, str]


def usable_mask(segmentation: Any, width: int, height: int) -> Judgement:
    """Judge one mask.

    Args:
        segmentation: of any JSON type; None for none.
        width, height: of the image, in pixels.

    Returns:
        the mask to use (None if unusable): the polygons with at least 3 finite points, each
        ``[x, y, x, y, ...]`` in pixels, or ``{"size": [height, width], "counts"}``; the kind of its
        defect (None if it is sound, "mask" if unusable) and a message.
    """
    if isinstance(segmentation, list) and len(segmentation) == 1:
        segmentation = segmentation[0] if isinstance(segmentation[0], dict) else segmentation
    if isinstance(segmentation, dict):
        return _usable_rle(segmentation, width, height)
    if isinstance(segmentation, list):
        numbers = _numbers(segmentation)
        polygons, how = _flat(numbers)
        polygons = [polygon for polygon in polygons if _is_polygon(polygon)]
        kind = "mask_nesting" if how else "mask_values" if numbers != segmentation else None
        if polygons and not any(_meets(polygon, width, height) for polygon in polygons):
            size = f"{width} x {height}"
            return None, "mask", f'"segmentation" is polygons wholly outside the image of {size}'
        if polygons:
            how = how or "polygons of texts"
            return polygons, kind, f'"segmentation" is {how}, read as polygons' if kind else ""
    want = "should be polygons of 3 or more points, or an RLE of the image's size"
    return None, "mask", f'"segmentation" is {short(segmentation)}; {want}'


def compressed(rle: dict[str, Any]) -> dict[str, Any]:
    """An RLE as pycocotools and Detectron2's mapper decode it, which both want text counts."""
    if isinstance(rle["counts"], str):
        return rle
    return mask_util.frPyObjects(rle, *rle["size"])


def runs_of_text(text: str) -> list[int] | None:
    """The runs that compressed counts stand for; None if they are no RLE.

    Not left to pycocotools, which reads and writes beyond its memory on some of what is none.
    """
    if not text or not text.isascii():
        return None
    codes = np.frombuffer(text.encode(), np.uint8).astype(np.int64) - 48
    if codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        return None
    ends = np.flatnonzero((codes & 32) == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    if (ends - starts).max() >= _MOST_CHARACTERS:
        return None
    place = np.arange(len(codes)) - np.repeat(starts, ends - starts + 1)
    values = np.add.reduceat((codes & 31) << (5 * place), starts)
    negative = (codes[ends] & 16) != 0
    values = np.where(negative, values - (1 << (5 * (place[ends] + 1))), values)
    # From the fourth run on the difference to the last run but one is written.
    runs = values.copy()
    for first in (1, 2):
        runs[first::2] = np.cumsum(values[first::2])
    return runs.tolist()


def _usable_rle(rle: dict[str, Any], width: int, height: int) -> Judgement:
    counts, repaired = _counts(rle.get("counts"))
    size = rle.get("size")
    size = [as_int(number_in_text(n)) for n in size] if isinstance(size, list) else size
    if size != [height, width]:
        got = f'"segmentation" is an RLE of "size" {short(rle.get("size"))}'
        want = f"that of the image, [height, width] = {[height, width]}"
        return None, "mask", f"{got}, should be {want}"
    runs = runs_of_text(counts) if isinstance(counts, str) else counts
    if runs is None or any(n is None or n < 0 for n in runs):
        got = f'"segmentation" has "counts" {short(rle.get("counts"))}'
        return None, "mask", f"{got}, which are no RLE; should be whole numbers or COCO's text"
    if sum(runs) != height * width:
        got = f'"segmentation" has "counts" of {sum(runs)} pixels'
        return None, "mask", f"{got}, but the image has {height} x {width} = {height * width}"
    if sum(runs[1::2]) == 0:
        return None, "mask", '"segmentation" is an RLE without a pixel of the object'
    sound = not repaired and size == rle["size"] and counts == rle["counts"]
    if sound and set(rle) == {"size", "counts"}:
        return rle, None, ""
    mask = {"size": size, "counts": counts}
    if sound:
        return mask, None, ""
    how = f"{repaired or 'numbers in texts'}, read as COCO's"
    return mask, "mask_values", f'"segmentation" is {short(rle)}: {how}'


def _counts(counts: Any) -> tuple[Any, str]:
    """Counts as a list of runs (None for one that is none) or as text, and what was repaired."""
    if isinstance(counts, list):
        return [as_int(number_in_text(n)) for n in counts], ""
    if not isinstance(counts, str):
        return [None], ""
    text = counts.strip()
    if text[:2] in ("b'", 'b"'):
        try:
            value = ast.literal_eval(text)
            return value.decode("ascii"), "Python's bytes as text"
        except (ValueError, SyntaxError, MemoryError):
            return [None], ""
    return counts, ""


def _numbers(value: Any, depth: int = 3) -> Any:
    """Lists, nested up to ``depth``, with the numbers that texts hold."""
    if isinstance(value, list) and depth:
        return [_numbers(v, depth - 1) for v in value]
    return number_in_text(value)


def _flat(segmentation: list[Any]) -> tuple[list[Any], str]:
    """A list of polygons in COCO's nesting, ``[[x, y, x, y, ...], ...]``, and in which it was.

    That is "" for COCO's own: it may be one polygon alone, or points as pairs.
    """
    if len(segmentation) >= 6 and all(map(is_number, segmentation)):
        return [segmentation], "one flat list of numbers"
    if len(segmentation) >= 3 and all(map(_is_point, segmentation)):
        return [[v for point in segmentation for v in point]], "a list of points"
    pointed = [isinstance(p, list) and p and all(map(_is_point, p)) for p in segmentation]
    if pointed and all(pointed):
        return [[v for point in p for v in point] for p in segmentation], "lists of points"
    return segmentation, ""


def _is_point(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(is_number, value))


def _meets(polygon: list[Any], width: int, height: int) -> bool:
    """Whether the polygon's bounds and the image have any pixel in common."""
    return all(
        min(values) < limit and max(values) > 0
        for values, limit in ((polygon[::2], width), (polygon[1::2], height))
    )


def _is_polygon(polygon: Any) -> bool:
    return (
        isinstance(polygon, list)
        and len(polygon) >= 6
        and len(polygon) % 2 == 0
        and all(is_number(v) and math.isfinite(as_float(v)) for v in polygon)
    )
