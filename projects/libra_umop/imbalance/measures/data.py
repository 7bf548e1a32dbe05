"""The data themselves: boxes by area, pyramid level and class."""

from typing import Any, TypedDict

import numpy as np

from ...data.check.areas import count_areas
from ...data.coco.classes import placeholder_ids
from ...data.coco.parsing import parse_split, refuse
from ...data.layouts.reading.layout import Split
from ..report.run import Run
from .level import HEADS


class ClassCount(TypedDict):
    """Boxes of one class."""

    name: str
    count: int


class LevelCount(TypedDict):
    """Boxes whose size is nearest to ``size`` px, what a pyramid level is made for."""

    name: str
    size: float
    count: int


class DataMeasure(TypedDict):
    """The boxes of a training set; crowd regions are left out.

    Attributes:
        images, boxes, images_without_boxes: how many.
        boxes_per_image: their mean.
        sides: square root of each box's area, px of the original.
        areas: see :func:`libra_umop.data.check.areas.count_areas`.
        classes: the most frequent first, those without a box among them.
        levels: finest first; None where the run does not say which it has.
    """

    images: int
    boxes: int
    images_without_boxes: int
    boxes_per_image: float
    sides: list[float]
    areas: dict[str, int]
    classes: list[ClassCount]
    levels: list[LevelCount] | None


def measure(run: Run) -> DataMeasure | None:
    """The training set, at the scale and with the levels of the run; None where it is not known."""
    if run.train_set is None:
        return None
    head = next((h for h in HEADS if h in run.meta.get("levels", {})), "")
    return measure_data(
        read_coco(run.train_set),
        levels=run.meta.get("levels", {}).get(head),
        anchor_sizes=run.meta.get("anchor_sizes", {}).get(head),
        min_size=run.meta.get("min_size"),
        max_size=run.meta.get("max_size") or 0,
    )


def read_coco(split: Split) -> dict[str, Any]:
    """The usable content of a split, as training sees it.

    Returns:
        "images", "annotations" (without masks), "categories" (those that are classes) and
        "image_root", the folder of the images.

    Raises:
        DatasetError: it cannot be read, or nothing in it can be used.
    """
    data = parse_split(split)
    if not data.images or not data.categories or not data.annotations:
        refuse(split.source, data.errors)
    grouping = placeholder_ids([data])
    return {
        "images": data.images,
        "annotations": data.annotations,
        "categories": [c for c in data.categories if c["id"] not in grouping],
        "image_root": data.image_root,
    }


def measure_data(
    coco: dict[str, Any],
    *,
    levels: list[str] | None = None,
    anchor_sizes: list[float] | None = None,
    min_size: list[int] | None = None,
    max_size: int = 0,
) -> DataMeasure:
    """Count boxes by area, class and level; crowd regions are left out.

    Args:
        coco: content of a COCO JSON file.
        levels, anchor_sizes: pyramid levels and the box side in px each is made for. A box counts
            for the level whose size is nearest in octaves, at the size that training sees it.
        min_size, max_size: INPUT.MIN_SIZE_TRAIN (their mean is taken) and MAX_SIZE_TRAIN; without
            them, and for 0, images are taken as they are.

    Returns:
        See :class:`DataMeasure`.
    """
    images = {image["id"]: image for image in coco["images"]}
    boxes = [a for a in coco["annotations"] if not a.get("iscrowd") and a["image_id"] in images]
    sides = np.sqrt([max(a["bbox"][2], 0) * max(a["bbox"][3], 0) for a in boxes])
    scales = np.array([_scale(images[a["image_id"]], min_size, max_size) for a in boxes])
    names = {c["id"]: c["name"] for c in coco["categories"]}
    counts = {name: 0 for name in names.values()}
    for a in boxes:
        counts[names[a["category_id"]]] += 1
    result: DataMeasure = {
        "images": len(images),
        "boxes": len(boxes),
        "images_without_boxes": len(set(images) - {a["image_id"] for a in boxes}),
        "boxes_per_image": len(boxes) / max(len(images), 1),
        "sides": sides.tolist(),
        "areas": count_areas(a.get("area", a["bbox"][2] * a["bbox"][3]) for a in boxes),
        "classes": [
            {"name": name, "count": count}
            for name, count in sorted(counts.items(), key=lambda item: -item[1])
        ],
        "levels": None,
    }
    if levels and anchor_sizes:
        nearest = nearest_level(sides * scales if len(boxes) else sides, anchor_sizes)
        per_level = np.bincount(nearest, minlength=len(levels))
        result["levels"] = [
            {"name": name, "size": size, "count": int(count)}
            for name, size, count in zip(levels, anchor_sizes, per_level, strict=True)
        ]
    return result


def nearest_level(sides: np.ndarray, sizes: list[float]) -> np.ndarray:
    """Index of the level whose size is nearest in octaves to each side, (B,), int64."""
    octaves = np.log2(np.maximum(sides, 1.0))[:, None] - np.log2(np.asarray(sizes))[None]  # (B, L)
    return np.abs(octaves).argmin(axis=1)


def _scale(image: dict[str, Any], min_size: list[int] | None, max_size: int) -> float:
    """By how much training resizes an image, as Detectron2's ResizeShortestEdge."""
    if not min_size or not np.mean(min_size) or not image.get("width") or not image.get("height"):
        return 1.0
    short, long = sorted((image["width"], image["height"]))
    scale = float(np.mean(min_size)) / short
    return min(scale, max_size / long) if max_size else scale
