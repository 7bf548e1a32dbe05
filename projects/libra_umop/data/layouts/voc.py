"""Pascal VOC: an XML file for each picture, as VOC itself and as LabelImg, Roboflow and others.

http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/

VOC counts pixels from 1 and means both corners inclusively (section 2.3 of its devkit's document),
so its box from 1 to W covers a picture of W pixels: 1 is taken from the first corner, as in
Detectron2's own reader. LabelImg and other tools write where the edges are, from 0 on: their
corners are taken as they are. A file is VOC's if it says so (``<annotation>PASCAL VOC2007`` or such
a ``<database>``; supervision's has the folder VOC of roboflow.ai) and no box of the split begins at
0.
"""

import os
import re
from collections.abc import Sequence
from functools import partial
from typing import Any

from ...errors import DatasetError
from ..coco.values import number_in_text
from ..defects import short
from .reading.builder import DocumentBuilder, polygon_area, sizes_of
from .reading.layout import Content, Layout, Split
from .reading.pictures import Pictures, subfolders
from .reading.split_names import SPLITS, split_of, splits_by_folders
from .reading.xml import Element, first_tag, read_xml
from .reading.yolo_lines import numbered_lines

__all__ = ["LAYOUTS"]

LISTS = os.path.join("ImageSets", "Main")
CORNERS = ("xmin", "ymin", "xmax", "ymax")
# What files of the devkit, and those that supervision writes, say of their source.
COUNTED_FROM_1 = re.compile(r"PASCAL VOC|\bVOC ?20\d\d")
SUPERVISION = {("roboflow.ai", "VOC")}
DIFFICULT = "{} objects are difficult: not learnt from, neither found nor missed in evaluation"


def _find_lists(root: str) -> list[Split]:
    """``ImageSets/Main/{split}.txt`` names the files of ``Annotations/``."""
    folder = os.path.join(root, LISTS)
    if not os.path.isdir(folder) or not os.path.isdir(os.path.join(root, "Annotations")):
        return []
    found: dict[str, str] = {}
    for file in sorted(os.listdir(folder)):
        stem, suffix = os.path.splitext(file)
        split = split_of(stem)
        if suffix == ".txt" and split is not None:
            found.setdefault(split, os.path.join(folder, file))
    for other in ("trainval.txt", "default.txt"):  # of VOC's test devkit, and CVAT's
        file = os.path.join(folder, other)
        if "train" not in found and os.path.isfile(file):
            found["train"] = file
    return [Split(n, found[n], partial(_read_list, root, found[n])) for n in SPLITS if n in found]


def _find_folders(root: str) -> list[Split]:
    """XML files beside their pictures or in a folder of their own, with or without splits."""
    if not os.path.isdir(root):
        return []
    if any(_find_lists(folder) for folder, _ in subfolders(root)):
        return []  # VOC's own folders, here or further down
    return splits_by_folders(root, _xml_files(root), _read_files)


def _xml_files(root: str) -> list[str]:
    """The XML files below a folder whose root element is VOC's; of a folder the first one tells."""
    found = []
    for folder, names in subfolders(root):
        files = [os.path.join(folder, name) for name in names if name.lower().endswith(".xml")]
        if files and "annotation" in (first_tag(files[0]), first_tag(files[-1])):
            found += files
    return found


def _read_list(root: str, file: str) -> Content:
    folder = os.path.join(root, "Annotations")
    files, problems = [], []
    for number, line in numbered_lines(file):
        # Lists of one class say behind the name whether it is there; some lists name pictures.
        names = (line, re.sub(r"\s+-?[01]$", "", line), os.path.splitext(line)[0])
        paths = [os.path.join(folder, f"{name}.xml") for name in names]
        path = next(filter(os.path.isfile, paths), None)
        if os.path.isabs(line) or ".." in line.split("/"):
            problems.append((number, f"{short(line)} should be a name below Annotations/"))
        elif path is None:
            problems.append((number, f"there is no file {short(f'Annotations/{line}.xml')}"))
        else:
            files.append(path)
    everything = [os.path.join(f, name) for f, names in subfolders(folder) for name in names]
    pictures = Pictures(os.path.join(root, "JPEGImages"))
    builder, _ = _build(root, files, [p for p in everything if p.endswith(".xml")], pictures)
    for number, message in problems:
        builder.defect("annotation_missing", message, builder.place(file, number))
    return builder.content()


def _read_files(
    root: str, files: Sequence[str], all_files: Sequence[str], others: Sequence[str]
) -> Content:
    """Of ``files``; ``others`` are of no split."""
    pictures = Pictures(root)
    builder, used = _build(root, files, all_files, pictures)
    folders = {os.path.dirname(path) for path in used}
    for path in pictures.paths:
        if path not in used and os.path.dirname(path) in folders:
            said = "{} pictures have no XML file and are left out (one without <object> says that"
            builder.count(f"{said} there is none)", builder.place(path))
    for path in others:
        said = "{} XML files lie in no folder of a split and are left out"
        builder.count(said, builder.place(path))
    return builder.content()


def _build(
    root: str, files: Sequence[str], all_files: Sequence[str], pictures: Pictures
) -> tuple[DocumentBuilder, set[str]]:
    """The document of ``files``, and the pictures that it has.

    The classes are those of ``all_files``, by alphabet, from 1.
    """
    trees: dict[str, Element] = {}
    broken: dict[str, str] = {}
    for path in dict.fromkeys([*files, *all_files]):
        try:
            trees[path] = read_xml(path)
        except DatasetError as e:
            broken[path] = str(e).partition(f"{path}: ")[2]
    names = {o.say("name") for tree in trees.values() for o in tree.all("object")} - {""}
    builder = DocumentBuilder(root, dict(enumerate(sorted(names), 1)))
    for path in files:
        if path in broken:
            builder.defect("unreadable_xml", broken[path], builder.place(path))
    read = {path: trees[path] for path in files if path in trees}
    first_pixel = _first_pixel(list(read.values()))
    found = {path: _picture(builder, path, tree, pictures) for path, tree in read.items()}
    sizes = sizes_of([p for f, p in found.items() if p is not None and _size(read[f]) is None])
    for path, tree in read.items():
        picture = found[path]
        if picture is not None:
            size = _size(tree) or sizes[picture]
            _add_picture(builder, picture, size, path, tree, first_pixel)
    return builder, {picture for picture in found.values() if picture is not None}


def _picture(builder: DocumentBuilder, path: str, tree: Element, pictures: Pictures) -> str | None:
    """The picture of an XML file: that of its own name, else the one that it names."""
    given = tree.say("filename")
    found = pictures.beside(path)
    if len(found) > 1:
        found = [p for p in found if os.path.basename(p) == given] or found
    found = found or pictures.named(given) or pictures.named(tree.say("path"))
    if len(found) == 1:
        return found[0]
    said = f"there is no picture of its name, nor {short(given)}"
    if found:
        said = f"may belong to {' or '.join(builder.place(p) for p in found[:3])}"
    builder.defect("image_missing", said, builder.place(path))
    return None


def _size(tree: Element) -> tuple[int, int] | None:
    """(width, height) as the file says, None if it does not (LabelImg may write 0)."""
    width, height = (number_in_text(tree.say("size", key)) for key in ("width", "height"))
    whole = isinstance(width, int) and isinstance(height, int) and min(width, height) > 0
    return (width, height) if whole else None


def _first_pixel(trees: Sequence[Element]) -> int:
    """0 or 1: what the first pixel of a row is called."""
    said = [(t.say("source", "annotation"), t.say("source", "database")) for t in trees]
    of_supervision = {(t.say("source", "database"), t.say("folder")) for t in trees} & SUPERVISION
    if not of_supervision and not any(COUNTED_FROM_1.search(" ".join(pair)) for pair in said):
        return 0
    starts = {
        number_in_text(o.say("bndbox", corner))
        for tree in trees
        for o in tree.all("object")
        for corner in CORNERS[:2]
    }
    return 0 if 0 in starts else 1


def _add_picture(
    builder: DocumentBuilder,
    picture: str,
    size: tuple[int, int] | DatasetError,
    path: str,
    tree: Element,
    first_pixel: int,
) -> None:
    if isinstance(size, DatasetError):
        builder.unreadable(picture, size)
        return
    said = tree.child("size")
    place = builder.place(path, said.line) if said is not None and _size(tree) else ""
    image_id = builder.add_image(picture, size, place)
    for element in tree.all("object"):
        _add_object(builder, image_id, path, element, first_pixel)


def _add_object(
    builder: DocumentBuilder, image_id: int, path: str, element: Element, first_pixel: int
) -> None:
    place, name, box = builder.place(path, element.line), element.say("name"), None
    box = element.child("bndbox")
    if not name:
        builder.defect("name_missing", "its object has no <name>", place)
        return
    if box is None:
        other = " (a rotated one is not read)" if element.child("robndbox") else ""
        other = " (a <polygon> alone is not read)" if element.child("polygon") else other
        builder.defect("bbox_missing", f"its object has no <bndbox>{other}", place)
        return
    corners = [number_in_text(box.say(corner)) for corner in CORNERS]
    wrong = [(c, v) for c, v in zip(CORNERS, corners, strict=True) if isinstance(v, str)]
    if wrong:
        said = f"<{wrong[0][0]}> is {short(wrong[0][1])}, should be a number"
        builder.defect("bbox_type", said, builder.place(path, box.line))
        return
    x1, y1 = corners[0] - first_pixel, corners[1] - first_pixel
    x2, y2 = corners[2:]
    if x2 <= x1 or y2 <= y1:
        said = ", ".join(f"{c} {v:g}" for c, v in zip(CORNERS, corners, strict=True))
        builder.drop(
            "bbox_negative", f"{said}: the second corner should be beyond the first", place
        )
        return
    crowd = element.say("difficult") == "1"
    if crowd:
        builder.count(DIFFICULT, place)
    polygon = _polygon(element.child("polygon"), first_pixel)
    builder.add_object(
        image_id,
        builder.ids[name],
        (x1, y1, x2, y2),
        place,
        mask=[polygon] if polygon else None,
        area=polygon_area(polygon) if polygon else None,
        crowd=crowd,
    )


def _polygon(element: Element | None, first_pixel: int) -> list[float] | None:
    """Roboflow's ``<polygon><x1>1</x1><y1>2</y1><x2>...``; None for none of 3 points."""
    if element is None:
        return None
    points: list[Any] = []
    while f"x{len(points) // 2 + 1}" in {child.tag for child in element.children}:
        k = len(points) // 2 + 1
        points += [number_in_text(element.say(f"{axis}{k}")) for axis in "xy"]
    if len(points) < 6 or any(isinstance(v, str) for v in points):
        return None
    return [v - first_pixel for v in points]


LAYOUTS = (
    Layout("Pascal VOC", "ImageSets/Main/train.txt", _find_lists),
    Layout("VOC's XML files", "pictures with XML files", _find_folders),
)
