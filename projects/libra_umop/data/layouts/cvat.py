"""CVAT for images 1.1: one XML file for all pictures.

https://docs.cvat.ai/docs/manual/advanced/formats/format-cvat/; corners are edges in pixels, from 0.
"""

import math
import os
from functools import partial
from typing import Any

import numpy as np
from pycocotools import mask as mask_utils

from ...errors import DatasetError
from ..coco.values import number_in_text
from ..defects import REPAIRED, short
from .reading.builder import DocumentBuilder, ellipse_shape, enclosing, polygon_area
from .reading.layout import Content, Layout, Split
from .reading.pictures import Pictures
from .reading.split_names import SPLITS, split_of
from .reading.values import BadValue, one_picture, whole_size
from .reading.xml import Element, first_tag, read_xml

__all__ = ["LAYOUTS"]

OBJECTS = ("box", "polygon", "ellipse", "mask")
NO_OBJECTS = ("polyline", "points", "cuboid", "skeleton", "tag")


def _find(path: str) -> list[Split]:
    """Any XML file of it: CVAT's annotations.xml, FiftyOne's labels.xml, Datumaro's train.xml."""
    files = [path]
    if os.path.isdir(path):
        files = [os.path.join(path, name) for name in sorted(os.listdir(path))]
    found = [f for f in files if f.lower().endswith(".xml") and first_tag(f) == "annotations"]
    return [split for file in found for split in _splits(file, read_xml(file))]


def _splits(file: str, root: Element) -> list[Split]:
    if root.child("track") is not None:
        raise DatasetError(f"{file}: is CVAT for video; export it as CVAT for images 1.1")
    names = {_split_of(file, image) for image in root.all("image")} or {"train"}
    order = [name for name in SPLITS if name in names]
    label = {name: f"{file} ({name})" if len(order) > 1 else file for name in order}
    return [Split(name, label[name], partial(_read, file, root, name)) for name in order]


def _split_of(file: str, image: Element) -> str:
    of_file = split_of(os.path.splitext(os.path.basename(file))[0])
    return split_of(image.attributes.get("subset", "")) or of_file or "train"


def _read(file: str, root: Element, split: str) -> Content:
    folder = os.path.dirname(file)
    builder = DocumentBuilder(folder, dict(enumerate(_labels(root), 1)))
    pictures = Pictures(folder)
    for image in root.all("image"):
        if _split_of(file, image) != split:
            continue
        place = builder.place(file, image.line)
        name = image.attributes.get("name", "")
        size = [number_in_text(image.attributes.get(key, "")) for key in ("width", "height")]
        found = pictures.named(f"{image.attributes.get('subset', '')}/{name}")
        picture = one_picture(builder, pictures, name, place, found)
        if whole_size(*size) is None:
            builder.defect("image_size", f"width and height of {short(name)} are {size}", place)
        elif picture is not None:
            image_id = builder.add_image(picture, tuple(size), place)
            for element in image.children:
                _add(builder, image_id, file, element, tuple(size))
    return builder.content()


def _labels(root: Element) -> list[str]:
    """In the order of the task's or the project's list of labels, then as they are met."""
    named = []
    meta = root.child("meta")
    for part in meta.children if meta is not None else ():
        labels = part.child("labels")
        named += [label.say("name") for label in (labels.all("label") if labels else ())]
    met = [o.attributes.get("label", "") for i in root.all("image") for o in i.all(*OBJECTS)]
    return [name for name in dict.fromkeys([*named, *met]) if name]


def _add(
    builder: DocumentBuilder, image_id: int, file: str, element: Element, size: tuple[int, int]
) -> None:
    place = builder.place(file, element.line)
    if element.tag in NO_OBJECTS:
        builder.count(f"{{}} shapes of kind {element.tag} are no boxes or areas: left out", place)
    if element.tag not in OBJECTS:
        return
    label = element.attributes.get("label")
    if label not in builder.ids:
        builder.defect("label", f"its {element.tag} has no label", place)
        return
    try:
        xyxy, mask, area = _shape(element, size)
    except BadValue as e:
        builder.defect("shape", f"its {element.tag} {e}", place)
        return
    if element.tag == "box" and _number(element, "rotation", "0"):
        message = f"is rotated by {element.attributes['rotation']} degrees; read as the upright box"
        builder.defect("rotated", f"{message} around it", place, REPAIRED)
    if xyxy[2] <= xyxy[0] or xyxy[3] <= xyxy[1]:
        builder.drop("bbox_negative", f"corners are {short(list(xyxy))}, without an area", place)
        return
    builder.add_object(image_id, builder.ids[label], xyxy, place, mask=mask, area=area)


def _shape(element: Element, size: tuple[int, int]) -> tuple[Any, Any, float | None]:
    """Box (XYXY pixels), mask and area of an object; BadValue says what is wrong with it."""
    if element.tag == "box":
        corners = [_number(element, key) for key in ("xtl", "ytl", "xbr", "ybr")]
        return rotated_box(corners, _number(element, "rotation", "0")), None, None
    if element.tag == "polygon":
        pairs = [p.split(",") for p in element.attributes.get("points", "").split(";")]
        numbers = [number_in_text(v) for pair in pairs for v in pair]
        if len(pairs) < 3 or any(len(pair) != 2 for pair in pairs) or _has_text(numbers):
            raise BadValue("should have points like 1,2;3,4;5,6")
        return enclosing(numbers), [numbers], polygon_area(numbers)
    if element.tag == "ellipse":
        x, y, rx, ry = (_number(element, key) for key in ("cx", "cy", "rx", "ry"))
        turned = _number(element, "rotation", "0")
        xyxy, outline, area = ellipse_shape((x, y), (rx, ry), turned)
        return xyxy, [outline], area
    left, top, width, height = (
        int(_number(element, key)) for key in ("left", "top", "width", "height")
    )
    runs = [number_in_text(v) for v in element.attributes.get("rle", "").split(",")]
    inside = 0 <= left <= left + width <= size[0] and 0 <= top <= top + height <= size[1]
    if _has_text(runs) or not inside or sum(runs) != width * height or min(runs) < 0:
        raise BadValue("should have runs that fill its rectangle, which lies inside the image")
    pixels = np.zeros(size[::-1], dtype=np.uint8)  # (H, W)
    values = np.arange(len(runs)) % 2
    pixels[top : top + height, left : left + width] = np.repeat(values, runs).reshape(height, width)
    rle = mask_utils.encode(np.asfortranarray(pixels))
    rle["counts"] = rle["counts"].decode()
    return (left, top, left + width, top + height), rle, float(pixels.sum())


def rotated_box(corners: list[float], degrees: float) -> tuple[float, float, float, float]:
    """The upright box around one that is turned about its centre."""
    x1, y1, x2, y2 = corners
    angle = math.radians(degrees)
    cos, sin = abs(math.cos(angle)), abs(math.sin(angle))
    width, height = (x2 - x1) * cos + (y2 - y1) * sin, (x2 - x1) * sin + (y2 - y1) * cos
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    if not degrees:
        return x1, y1, x2, y2
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _number(element: Element, key: str, default: str = "") -> float:
    value = number_in_text(element.attributes.get(key, default))
    if isinstance(value, str) or not math.isfinite(value):
        raise BadValue(f"has {key} {short(value)}, should be a number")
    return value


def _has_text(values: list[Any]) -> bool:
    return any(isinstance(value, str) for value in values)


LAYOUTS = (Layout("CVAT for images", "annotations.xml", _find),)
