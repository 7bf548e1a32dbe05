"""Images with boxes in the colours of their classes, and the legend of these."""

import colorsys
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

__all__ = ["PALETTE", "Boxes", "captioned", "class_colour", "draw_boxes", "grid", "legend"]

# A qualitative palette that colour-blind readers can tell apart (Okabe and Ito, 2008), RGB 0..255.
PALETTE = [
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
]
GUTTER_PX = 6
CAPTION_PX = 26
FONT = cv2.FONT_HERSHEY_SIMPLEX


class Boxes(NamedTuple):
    """XYXY pixels (N, 4), classes and, of predictions, scores; each a list of N."""

    boxes: np.ndarray
    classes: list[int]
    scores: list[float]


def class_colour(index: int) -> tuple[int, int, int]:
    """Of the class with that place on the sheet, BGR; beyond the palette hues far from the last."""
    if index < len(PALETTE):
        return PALETTE[index][::-1]
    light = (0.95, 0.7)[index % 2]
    red, green, blue = colorsys.hsv_to_rgb(index * 0.618 % 1, 0.85, light)
    return round(255 * blue), round(255 * green), round(255 * red)


def draw_boxes(
    image: np.ndarray,
    shown: Boxes,
    colours: dict[int, tuple[int, int, int]],
    names: dict[int, str],
    tile_px: int,
) -> np.ndarray:
    """A tile with boxes in their class's colour, the largest first, so that none hides another."""
    scale = tile_px / max(image.shape[:2])
    size = [max(round(side * scale), 1) for side in image.shape[1::-1]]
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    tile = np.ascontiguousarray(cv2.resize(image, size, interpolation=how))
    boxes = np.rint(shown.boxes * scale).astype(int)
    order = np.argsort(-(boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
    for i in order:
        cv2.rectangle(tile, boxes[i, :2], boxes[i, 2:], colours[shown.classes[i]], 2)
    for i in order:
        words = [names.get(shown.classes[i], "")]
        words += [f"{shown.scores[i]:.2f}"] if shown.scores else []
        _label(tile, boxes[i], " ".join(filter(None, words)), colours[shown.classes[i]])
    return tile


def _label(tile: np.ndarray, box: np.ndarray, text: str, colour: tuple[int, int, int]) -> None:
    """A text on its class's colour, over the box where there is room, and always on the tile."""
    if not text:
        return
    (width, height), below = cv2.getTextSize(text, FONT, 0.35, 1)
    x = int(np.clip(box[0], 0, max(tile.shape[1] - width - 2, 0)))
    y = int(np.clip(box[1] - 2, height + below, tile.shape[0] - below))
    cv2.rectangle(tile, (x, y - height - 1), (x + width + 1, y + below - 1), colour, cv2.FILLED)
    dark = np.dot(colour, (0.114, 0.587, 0.299)) < 120
    ink = (255, 255, 255) if dark else (0, 0, 0)
    cv2.putText(tile, text, (x + 1, y), FONT, 0.35, ink, 1, cv2.LINE_AA)


def legend(entries: Sequence[tuple[str, tuple[int, int, int]]], width: int) -> np.ndarray:
    """White strips with each class's colour beside its name, as many as they need."""
    places, x, row = [], 2 * GUTTER_PX, 0
    for name, _ in entries:
        step = 44 + cv2.getTextSize(name, FONT, 0.55, 1)[0][0]
        if x + step - 22 > width and x > 2 * GUTTER_PX:
            x, row = 2 * GUTTER_PX, row + 1
        places.append((x, row * CAPTION_PX))
        x += step
    height = (row + 1) * CAPTION_PX + GUTTER_PX
    strip = np.full((height, width, 3), 255, dtype=np.uint8)
    for (name, colour), (x, y) in zip(entries, places, strict=True):
        cv2.rectangle(strip, (x, y + 8), (x + 16, y + 24), colour, cv2.FILLED)
        cv2.putText(strip, name, (x + 22, y + 22), FONT, 0.55, (0, 0, 0), 1, cv2.LINE_AA)
    return strip


def captioned(tile: np.ndarray, caption: str) -> np.ndarray:
    """The tile below a white strip with the caption."""
    strip = np.full((CAPTION_PX, tile.shape[1], 3), 255, dtype=np.uint8)
    place = (4, CAPTION_PX - 8)
    cv2.putText(strip, caption, place, FONT, 0.5, (60, 60, 60), 1, cv2.LINE_AA)
    return np.vstack([strip, tile])


def grid(pairs: list[list[np.ndarray]], columns: int) -> np.ndarray:
    """All pairs on white, ``columns`` in a row, with a wider gap between pairs than inside one.

    Instead of pairs there may be single tiles, or more that belong together.
    """
    columns = min(columns, len(pairs))
    width = max(t.shape[1] for pair in pairs for t in pair)
    step_x = max(map(len, pairs)) * (width + GUTTER_PX) + 2 * GUTTER_PX
    rows = []
    for start in range(0, len(pairs), columns):
        row = pairs[start : start + columns]
        height = max(t.shape[0] for pair in row for t in pair) + 2 * GUTTER_PX
        strip = np.full((height, columns * step_x, 3), 255, dtype=np.uint8)
        for i, pair in enumerate(row):
            for j, tile in enumerate(pair):
                x = i * step_x + GUTTER_PX + j * (width + GUTTER_PX)
                strip[GUTTER_PX : GUTTER_PX + tile.shape[0], x : x + tile.shape[1]] = tile
        rows.append(strip)
    return np.vstack(rows)
