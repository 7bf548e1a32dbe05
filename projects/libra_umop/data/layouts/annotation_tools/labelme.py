"""LabelMe: a JSON file for each picture, with ``shapes`` in pixels.

https://github.com/wkentaro/labelme
"""

import math
import os
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from ....errors import DatasetError
from ...coco.document import read_json
from ...defects import short
from ..reading.builder import DocumentBuilder, ellipse_shape, enclosing, polygon_area
from ..reading.layout import Content, Layout, Split
from ..reading.pictures import Pictures, subfolders
from ..reading.split_names import splits_by_folders
from ..reading.values import BadValue, numbers, one_picture, text

__all__ = ["LAYOUTS"]

# Kinds of shapes that are areas, and how many points each has at least. "rotation" is a rectangle
# that is turned (X-AnyLabeling), "mask" a bitmap with the corners of the box around it.
AREAS = {"polygon": 3, "rotation": 3, "rectangle": 2, "circle": 2, "mask": 2}


def _find(root: str) -> list[Split]:
    if not os.path.isdir(root):
        return []
    return splits_by_folders(root, _files(root), _read)


def _files(root: str) -> list[str]:
    """The JSON files of folders of which one of the first three is LabelMe's."""
    found = []
    for folder, names in subfolders(root):
        files = [os.path.join(folder, name) for name in names if name.lower().endswith(".json")]
        if any(map(_is_labelme, files[:3])):
            found += files
    return found


def _is_labelme(file: str) -> bool:
    """By the beginning and the end of the file, as the picture may stand first in it."""
    if os.path.getsize(file) > 200_000_000:
        return False
    with open(file, "rb") as f:
        head = f.read(4096)
        f.seek(max(os.path.getsize(file) - 65536, 0))
        head += f.read()
    return b'"shapes"' in head and (b'"version"' in head or b'"flags"' in head)


def _read(
    root: str, files: Sequence[str], all_files: Sequence[str], others: Sequence[str]
) -> Content:
    """Of ``files``; ``others`` are of no split."""
    contents, broken = {}, {}
    for file in dict.fromkeys([*files, *all_files]):
        try:
            contents[file] = read_json(file)
        except DatasetError as e:
            broken[file] = str(e).partition(f"{file}: ")[2]
    names = sorted({text(s, "label") for c in contents.values() for s in _shapes(c)} - {""})
    builder = DocumentBuilder(root, dict(enumerate(names, 1)))
    pictures, found = Pictures(root), []
    for file in files:
        place = builder.place(file)
        if file in broken:
            builder.defect("unreadable", broken[file], place)
            continue
        if not isinstance(contents[file], dict) or "shapes" not in contents[file]:
            builder.count("{} JSON files have no shapes and are none of LabelMe's: left out", place)
            continue
        name = text(contents[file], "imagePath")
        beside = pictures.beside(file) or pictures.named(name)
        if not beside and text(contents[file], "imageData"):
            said = f"there is no picture {short(name)} beside it; the one in its imageData is not"
            builder.defect("image_missing", f"{said} read, write it to a file", place)
            continue
        picture = one_picture(builder, pictures, name, place, beside)
        if picture is not None:
            found.append((picture, file))
    for file in others:
        said = "{} JSON files lie in no folder of a split and are left out"
        builder.count(said, builder.place(file))
    for image_id, _, file in builder.add_images(found):
        _add_shapes(builder, image_id, contents[file], builder.place(file))
    return builder.content()


def _shapes(content: Any) -> list[Any]:
    shapes = content.get("shapes") if isinstance(content, dict) else None
    return shapes if isinstance(shapes, list) else []


def _add_shapes(builder: DocumentBuilder, image_id: int, content: Any, place: str) -> None:
    """Polygons of one label and ``group_id`` are one object."""
    groups: dict[Any, list[tuple[list[float], str]]] = defaultdict(list)
    bitmaps: set[Any] = set()
    for i, shape in enumerate(_shapes(content)):
        where, label = f"{place}, shape {i + 1}", text(shape, "label")
        kind = text(shape, "shape_type") or "polygon"
        if kind not in AREAS:
            builder.count(
                f"{{}} shapes of type {short(kind)} are no boxes or polygons: left out", where
            )
            continue
        if not label:
            builder.defect("label", "has no label", where)
            continue
        try:
            outline = _outline(kind, shape.get("points"))
        except BadValue as e:
            builder.defect("points", str(e), where)
            continue
        if kind in ("mask", "rotation"):
            builder.count(f"{{}} shapes of type {kind} are read as the boxes around them", where)
        group = shape.get("group_id")
        key = (label, group) if isinstance(group, (int, str)) else (label, None, i)
        groups[key].append((outline, where))
        bitmaps |= {key} if kind == "mask" else set()
    for key, parts in groups.items():
        label, outlines = key[0], [outline for outline, _ in parts]
        xyxy = enclosing([v for outline in outlines for v in outline])
        area = sum(map(polygon_area, outlines))
        mask = None if key in bitmaps else outlines
        builder.add_object(image_id, builder.ids[label], xyxy, parts[0][1], mask=mask, area=area)


def _outline(kind: str, points: Any) -> list[float]:
    """The polygon of a shape, ``[x1, y1, x2, y2, ...]`` in pixels."""
    least = AREAS[kind]
    if not isinstance(points, list) or len(points) < least:
        raise BadValue(f"points of a {kind} are {short(points)}, should be {least} or more")
    flat = []
    for point in points:
        if not isinstance(point, list) or len(point) != 2:
            raise BadValue(f"a point is {short(point)}, should be [x, y]")
        flat += numbers(dict(zip("xy", point, strict=True)), "xy")
    if least > 2:
        return flat
    if kind == "circle":
        radius = math.dist(flat[:2], flat[2:4])
        return ellipse_shape((flat[0], flat[1]), (radius, radius))[1]
    x1, y1, x2, y2 = enclosing(flat)
    return [x1, y1, x2, y1, x2, y2, x1, y2]


LAYOUTS = (Layout("LabelMe", "pictures with LabelMe's JSON files", _find),)
