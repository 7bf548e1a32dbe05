"""A picture to look at before training: pictures as training sees them, and what is how often."""

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from ..utils.rng import preserved_rng, sample_rng
from .tiles import FONT, GUTTER_PX, PALETTE, Boxes, captioned, class_colour, draw_boxes, grid

__all__ = ["choose", "gallery"]

_ROW_PX = 22
_NAME_PX, _COUNT_PX = 190, 70
_INK = (60, 60, 60)


def gallery(
    dataset_dicts: Sequence[dict[str, Any]],
    mapper: Callable[[dict[str, Any]], dict[str, Any]],
    class_names: Sequence[str],
    counts: Mapping[str, Sequence[int]],
    *,
    bgr: bool,
    num_images: int = 16,
    columns: int = 4,
    tile_px: int = 320,
    seed: int = 0,
) -> np.ndarray:
    """Training pictures as the augmentation makes them, below a table of boxes per class.

    Classes are sorted by their number of boxes in the first split; with more classes than colours
    that can be told apart, every box says its class.

    Args:
        dataset_dicts: of the training split, in Detectron2's standard form.
        mapper: makes a training sample of one, as the training loader does.
        class_names: of the classes 0, 1, ...
        counts: by split, the number of boxes of each class.
        bgr: the samples' images are BGR, else RGB.
        num_images: that are chosen, see :func:`choose`.
        columns: pictures in a row.
        tile_px: longer side of a tile.
        seed: of the augmentation.

    Returns:
        A BGR uint8 image.

    Raises:
        ValueError: there is no image.
        DatasetError: one cannot be read.
    """
    if not dataset_dicts:
        raise ValueError("there is no image to show")
    numbers = list(zip(*counts.values(), strict=True))  # of each class, by split
    by_number = sorted(range(len(class_names)), key=lambda c: numbers[c], reverse=True)
    colours = {c: class_colour(i) for i, c in enumerate(by_number)}
    names = dict(enumerate(class_names)) if len(class_names) > len(PALETTE) else {}
    tiles = []
    for i, index in enumerate(choose(dataset_dicts, num_images)):
        with preserved_rng(), sample_rng(seed + i):
            sample = mapper(dataset_dicts[index])
        image, boxes = _shown(sample, bgr)
        name = os.path.basename(dataset_dicts[index]["file_name"])
        caption = f"{name[-26:]}  {image.shape[1]} x {image.shape[0]}"
        tiles.append([captioned(draw_boxes(image, boxes, colours, names, tile_px), caption)])
    sheet = grid(tiles, columns)
    table = _table(class_names, counts, by_number, colours, max(sheet.shape[1], 2 * tile_px))
    sheet = _widened(sheet, table.shape[1])
    return np.vstack([table, sheet])


def choose(dataset_dicts: Sequence[dict[str, Any]], number: int) -> list[int]:
    """Indices of at most ``number`` images: of each class one, the rarest first; then evenly.

    Images are shown in the order of the set.
    """
    classes = [
        {a["category_id"] for a in record.get("annotations", ()) if not a.get("iscrowd")}
        for record in dataset_dicts
    ]
    images_of = Counter(c for own in classes for c in own)
    chosen: dict[int, None] = {}
    seen: set[int] = set()
    for c, _ in sorted(images_of.items(), key=lambda item: (item[1], item[0])):
        if c not in seen and len(chosen) < number:
            # Of those with the class, the one with most classes that are not shown yet.
            having = [i for i, found in enumerate(classes) if c in found]
            best = max(having, key=lambda i: len(classes[i] - seen))
            chosen[best] = None
            seen |= classes[best]
    step = max(len(dataset_dicts) / max(number, 1), 1.0)
    for k in range(number):
        if len(chosen) < number and int(k * step) < len(dataset_dicts):
            chosen[int(k * step)] = None
    return sorted(chosen)


def _shown(sample: dict[str, Any], bgr: bool) -> tuple[np.ndarray, Boxes]:
    """The image, (H, W, 3) BGR, and the boxes of a training sample."""
    image = sample["image"].permute(1, 2, 0).numpy()  # (H, W, C)
    image = np.ascontiguousarray(image[:, :, :3] if bgr else image[:, :, 2::-1])
    found = sample["instances"]
    boxes = found.gt_boxes.tensor.numpy().reshape(-1, 4)
    return image.astype(np.uint8), Boxes(boxes, found.gt_classes.tolist(), [])


def _table(
    class_names: Sequence[str],
    counts: Mapping[str, Sequence[int]],
    order: Sequence[int],
    colours: dict[int, tuple[int, int, int]],
    width: int,
) -> np.ndarray:
    """A row for each class: colour, name, number of boxes by split, and a bar of the first."""
    least = _NAME_PX + _COUNT_PX * len(counts) + 60
    num_columns = max(1, min(width // least, -(-len(class_names) // 12)))
    rows = -(-len(class_names) // num_columns)
    step = width // num_columns
    strip = np.full(((rows + 1) * _ROW_PX + 3 * GUTTER_PX, width, 3), 255, dtype=np.uint8)
    in_first = next(iter(counts.values()))
    most = max(in_first, default=0) or 1
    for column in range(num_columns):
        left = column * step + 2 * GUTTER_PX
        _write(strip, f"{len(class_names)} classes" if not column else "", left, _ROW_PX)
        for k, split in enumerate(counts):
            _write(strip, split, left + _NAME_PX + (k + 1) * _COUNT_PX, _ROW_PX, right=True)
    for place, c in enumerate(order):
        column, row = divmod(place, rows)
        left, y = column * step + 2 * GUTTER_PX, (row + 2) * _ROW_PX
        cv2.rectangle(strip, (left, y - 12), (left + 12, y), colours[c], cv2.FILLED)
        _write(strip, _fitting(class_names[c], _NAME_PX - 24), left + 18, y)
        for k, own in enumerate(counts.values()):
            _write(strip, str(own[c]), left + _NAME_PX + (k + 1) * _COUNT_PX, y, right=True)
        start = left + _NAME_PX + len(counts) * _COUNT_PX + 10
        length = ((column + 1) * step - 3 * GUTTER_PX - start) * in_first[c] // most
        if length:
            cv2.rectangle(strip, (start, y - 11), (start + length, y - 1), colours[c], cv2.FILLED)
    return strip


def _fitting(text: str, width: int) -> str:
    """A text cut off where it is wider than ``width`` pixels."""
    while text and cv2.getTextSize(text, FONT, 0.45, 1)[0][0] > width:
        text = f"{text.removesuffix('..')[:-1]}.." if len(text) > 3 else ""
    return text


def _write(strip: np.ndarray, text: str, x: int, y: int, *, right: bool = False) -> None:
    if right:
        x -= cv2.getTextSize(text, FONT, 0.45, 1)[0][0]
    cv2.putText(strip, text, (x, y), FONT, 0.45, _INK, 1, cv2.LINE_AA)


def _widened(image: np.ndarray, width: int) -> np.ndarray:
    """The image with white at its right, up to ``width``."""
    strip = np.full((image.shape[0], max(width - image.shape[1], 0), 3), 255, dtype=np.uint8)
    return np.hstack([image, strip])
