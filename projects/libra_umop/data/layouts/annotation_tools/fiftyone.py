"""FiftyOne: its own export, ``samples.json`` beside ``data/``, and ``labels.json`` of detections.

https://docs.voxel51.com/user_guide/export_datasets.html: FiftyOneDataset and
FiftyOneImageDetectionDataset; boxes are ``[x, y, width, height]`` as fractions of the picture. Its
exports to COCO, YOLO and VOC are read as those.
"""

import os
from collections.abc import Iterable
from functools import partial
from typing import Any, NamedTuple

from ....errors import DatasetError
from ...coco.document import read_json
from ...defects import short
from ..reading.builder import DocumentBuilder
from ..reading.layout import Content, Layout, Split
from ..reading.pictures import Pictures
from ..reading.split_names import SPLITS, split_of
from ..reading.values import BadValue, numbers, one_picture, text

__all__ = ["LAYOUTS"]

PIXELS = 2.0  # no fraction of a picture, even of one that is cut


class _Sample(NamedTuple):
    """A picture and its detections, with the place of both; ``found`` are pictures, if known."""

    name: str
    split: str
    detections: list[Any]
    place: str
    found: list[str] | None = None


def _find_samples(path: str) -> list[Split]:
    """``samples.json``, with tags for the splits."""
    file = os.path.join(path, "samples.json") if os.path.isdir(path) else path
    if os.path.basename(file) != "samples.json" or not os.path.isfile(file):
        return []
    content = read_json(file)
    samples = content.get("samples") if isinstance(content, dict) else None
    if not isinstance(samples, list):
        raise DatasetError(f"{file}: has no list of samples, as FiftyOne writes it")
    read = [_sample(file, raw, i) for i, raw in enumerate(samples)]
    found = {sample.split for sample in read}
    order = [name for name in SPLITS if name in found]
    label = {name: f"{file} ({name})" if len(order) > 1 else file for name in order}
    names = sorted({text(d, "label") for s in read for d in s.detections} - {""})
    classes = dict(enumerate(names, 1))
    return [
        Split(n, label[n], partial(_read, file, classes, [s for s in read if s.split == n]))
        for n in order
    ]


def _sample(file: str, raw: Any, index: int) -> _Sample:
    place = f"{os.path.basename(file)}, sample number {index + 1}"
    if not isinstance(raw, dict):
        return _Sample("", "train", [], place)
    tags: Any = raw.get("tags")
    tags = tags if isinstance(tags, list) else []
    named = (split_of(tag) for tag in tags if isinstance(tag, str))
    split = next(filter(None, named), "train")
    fields = [v for v in raw.values() if isinstance(v, dict) and v.get("_cls") == "Detections"]
    first = raw.get("ground_truth") if raw.get("ground_truth") in fields else None
    chosen = first or next(iter(fields), {})
    detections = chosen.get("detections")
    detections = detections if isinstance(detections, list) else []
    return _Sample(text(raw, "filepath"), split, detections, place)


def _find_labels(path: str) -> list[Split]:
    """``labels.json`` of ``classes`` and ``labels``, by the stem of the picture's name."""
    file = os.path.join(path, "labels.json") if os.path.isdir(path) else path
    if os.path.basename(file) != "labels.json" or not os.path.isfile(file):
        return []
    content = read_json(file)
    if not isinstance(content, dict) or not isinstance(content.get("labels"), dict):
        return []
    return [Split("train", file, partial(_read_labels, file, content))]


def _read_labels(file: str, content: dict[str, Any]) -> Content:
    listed = content.get("classes")
    names = listed if isinstance(listed, list) else []
    classes = {i: name for i, name in enumerate(names) if isinstance(name, str)}
    pictures = Pictures(os.path.dirname(file))
    samples = []
    met: dict[str, None] = {}
    for stem, detections in content["labels"].items():
        place = f"{os.path.basename(file)}, {short(stem)}"
        own = detections if isinstance(detections, list) else []
        met.update({text(d, "label"): None for d in own})
        samples.append(_Sample(stem, "train", own, place, pictures.beside(f"data/{stem}.json")))
    if not classes:
        classes = dict(enumerate(sorted(set(met) - {""}), 1))
    return _read(file, classes, samples)


def _read(file: str, classes: dict[int, str], samples: Iterable[_Sample]) -> Content:
    folder = os.path.dirname(file)
    builder, pictures = DocumentBuilder(folder, classes), Pictures(folder)
    found = []
    for sample in samples:
        picture = one_picture(builder, pictures, sample.name, sample.place, sample.found)
        if picture is not None:
            found.append((picture, sample))
    for image_id, size, sample in builder.add_images(found):
        for i, detection in enumerate(sample.detections):
            _add(builder, image_id, detection, size, f"{sample.place}, detection {i + 1}")
    return builder.content()


def _add(
    builder: DocumentBuilder, image_id: int, detection: Any, size: tuple[int, int], place: str
) -> None:
    label = detection.get("label") if isinstance(detection, dict) else None
    class_id = builder.ids.get(label) if isinstance(label, str) else label
    if type(class_id) is not int or class_id not in builder.classes:
        builder.defect("label", f"its label is {short(label)}, which is none of the classes", place)
        return
    box = detection.get("bounding_box")
    try:
        if not isinstance(box, list) or len(box) != 4:
            raise BadValue(f"is {short(box)}, should be [x, y, width, height]")
        x, y, w, h = numbers(dict(zip("xywh", box, strict=True)), "xywh")
        if max(x, y, w, h) > PIXELS:
            raise BadValue(f"is {short(box)}, like pixels; should be fractions of the image")
    except BadValue as e:
        builder.defect("bbox_type", f"its bounding_box {e}", place)
        return
    width, height = size
    xyxy = (x * width, y * height, (x + w) * width, (y + h) * height)
    builder.add_object(image_id, class_id, xyxy, place, crowd=bool(detection.get("iscrowd")))


LAYOUTS = (
    Layout("FiftyOne", "samples.json", _find_samples),
    Layout("FiftyOne's detections", "labels.json", _find_labels),
)
