"""CreateML: a list of pictures with boxes about their centres, in pixels.

https://developer.apple.com/documentation/createml/building-an-object-detector-data-source
"""

import os
from collections.abc import Iterator
from functools import partial
from typing import Any

from ..reading.builder import DocumentBuilder
from ..reading.layout import Content, Layout, Split
from ..reading.pictures import Pictures
from ..reading.split_names import folders_of_splits
from ..reading.values import BadValue, json_lists, numbers, one_picture, text

__all__ = ["LAYOUTS"]

BOXES = ("annotations", "annotation")  # Roboflow's and Apple's
NAMES = ("image", "imagefilename", "imageFilename")


def _find(root: str) -> list[Split]:
    """A list in the folder itself, or one in a folder of each split."""
    folders = folders_of_splits(root)
    found = [(split, *listed) for split, folder in folders for listed in _lists(folder)]
    found = found or [("train", *listed) for listed in _lists(root)]
    met = {text(box, "label") for _, _, entries in found for e in entries for box in _boxes(e)}
    classes = dict(enumerate(sorted(met - {""}), 1))
    return [
        Split(split, file, partial(_read, file, entries, classes)) for split, file, entries in found
    ]


def _lists(path: str) -> Iterator[tuple[str, list[Any]]]:
    if os.path.exists(path):
        for file, entries in json_lists(path):
            if entries and text(entries[0], *NAMES) and set(BOXES) & set(entries[0]):
                yield file, entries


def _boxes(entry: Any) -> list[Any]:
    found = (entry.get(key) for key in BOXES) if isinstance(entry, dict) else ()
    boxes = next((value for value in found if value is not None), None)
    return boxes if isinstance(boxes, list) else []


def _read(file: str, entries: list[Any], classes: dict[int, str]) -> Content:
    folder = os.path.dirname(file)
    builder, pictures, found = DocumentBuilder(folder, classes), Pictures(folder), []
    for i, entry in enumerate(entries):
        place = f"{os.path.basename(file)}, entry number {i + 1}"
        picture = one_picture(builder, pictures, text(entry, *NAMES), place)
        if picture is not None:
            found.append((picture, (entry, place)))
    for image_id, _, (entry, place) in builder.add_images(found):
        for i, box in enumerate(_boxes(entry)):
            _add(builder, image_id, box, f"{place}, annotation {i + 1}")
    return builder.content()


def _add(builder: DocumentBuilder, image_id: int, box: Any, place: str) -> None:
    if text(box, "label") not in builder.ids:
        builder.defect("label", "has no label", place)
        return
    try:
        x, y, w, h = numbers(box.get("coordinates"), ("x", "y", "width", "height"))
    except BadValue as e:
        builder.defect("bbox_type", f"its coordinates: {e}", place)
        return
    xyxy = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
    builder.add_object(image_id, builder.ids[box["label"]], xyxy, place)


LAYOUTS = (Layout("CreateML", "a JSON file of CreateML", _find),)
