"""Images with ground truth and detections, as records for the page."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

# Hits, false alarms and misses: told apart by colour and by dashes.
HIT, FALSE_ALARM, MISSED = "#56B4E9", "#D55E00", "#FFFFFF"
MAX_SIDE = 460
MOST_COLUMNS = 4


@dataclass(frozen=True)
class Rectangle:
    """A box on an image, XYWH in px of the original, and what it says when pointed at."""

    bbox: Sequence[float]
    colour: str
    title: str
    is_dashed: bool = False


@dataclass(frozen=True)
class Picture:
    """One image with the boxes of one run.

    Attributes:
        uri: of the image, see :func:`encode`.
        width, height: of the original, px.
        boxes: in px of the original, the last on top.
        run: index of the run.
        caption: below it.
    """

    uri: str
    width: int
    height: int
    boxes: Sequence[Rectangle]
    run: int
    caption: str

    @property
    def unit(self) -> float:
        """How many px of the original are about one px on the page."""
        return max(self.width, self.height) / MAX_SIDE


@dataclass(frozen=True)
class Pictures:
    """Pictures in rows of ``columns``."""

    columns: int
    pictures: Sequence[Picture]


def encode(path: Path, max_side: int = MAX_SIDE) -> str | None:
    """An image file as a small JPEG in a data URI; None if it cannot be read.

    EXIF rotation is undone, as training does.
    """
    try:
        with Image.open(path) as image:
            small = ImageOps.exif_transpose(image).convert("RGB")
            small.thumbnail((max_side, max_side))
            buffer = io.BytesIO()
            small.save(buffer, "JPEG", quality=78)
    except (OSError, ValueError):
        return None
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def rectangles(entry: dict[str, Any]) -> list[Rectangle]:
    """The boxes of one image, those with the highest score on top.

    Args:
        entry: ``truth`` and ``found``, see :mod:`libra_umop.imbalance.measures.detections`.
    """
    boxes = [
        Rectangle(box["bbox"], MISSED, f"missed: {box['name']}", is_dashed=True)
        for box in entry["truth"]
        if not box["hit"]
    ]
    for box in sorted(entry["found"], key=lambda b: b["score"]):
        kind, colour = ("hit", HIT) if box["hit"] else ("false alarm", FALSE_ALARM)
        boxes.append(Rectangle(box["bbox"], colour, f"{kind}: {box['name']} {box['score']:.2f}"))
    return boxes


def pictures_of(
    coco: dict[str, Any],
    runs: list[int],
    per_run: list[dict[Any, dict[str, Any]]],
    ids: list[Any],
) -> Pictures | None:
    """Some images, each drawn for every run; None if none of them can be read.

    Args:
        coco: of :func:`libra_umop.imbalance.measures.data.read_coco`.
        runs: their indices.
        per_run: ``images`` of each run.
        ids: which images.

    Returns:
        a row an image and a column a run; the images of one run stand three in a row.
    """
    by_id = {image["id"]: image for image in coco["images"]}
    pictures = []
    for image in (by_id[image_id] for image_id in ids):
        uri = encode(Path(coco["image_root"]) / image["file_name"])
        if uri is None:
            continue
        for run, images in zip(runs, per_run, strict=True):
            entry = images[image["id"]]
            caption = (
                f"{image['file_name']}: F1 {entry['f1']:.2f}: {entry['tp']} hits,"
                f" {entry['fp']} false alarms, {entry['fn']} missed"
            )
            size = image["width"], image["height"]
            pictures.append(Picture(uri, *size, rectangles(entry), run, caption))
    columns = min(len(runs), MOST_COLUMNS) if len(runs) > 1 else 3
    return Pictures(columns, pictures) if pictures else None
