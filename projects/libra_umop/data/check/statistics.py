"""What a dataset holds, in numbers that decide which imbalance one has."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.modeling.poolers import assign_boxes_to_levels
from detectron2.structures import Boxes, BoxMode

from ..coco.document import CocoData
from .areas import count_areas

# Detectron2's Faster R-CNN: the level of a box is floor(4 + log2(sqrt(area) / 224)), within P2..P5
# (Feature Pyramid Networks, equation 1).
POOLER_LEVELS = (2, 5)
CANONICAL_SIZE, CANONICAL_LEVEL = 224, 4

# Anchor sizes of the dense detectors, the square root of their area in pixels, on P3..P7.
RETINANET_ANCHORS = tuple(tuple(32 * 2 ** (i + k / 3) for k in range(3)) for i in range(5))
ATSS_ANCHORS = tuple((64 * 2**i,) for i in range(5))


@dataclass(frozen=True)
class ResizedTo:
    """How images are resized before they are looked at, in pixels.

    ``INPUT.MIN_SIZE_TEST`` for the shorter side, 0 for not at all, but at most
    ``INPUT.MAX_SIZE_TEST`` for the longer one.
    """

    min_size: int = 800
    max_size: int = 1333

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "ResizedTo":
        """Of the keys named above."""
        return cls(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)

    def scale(self, width: int, height: int) -> tuple[float, float]:
        """Factors on x and y for an image of that size."""
        if self.min_size <= 0:
            return 1.0, 1.0
        new_height, new_width = ResizeShortestEdge.get_output_shape(
            height, width, self.min_size, self.max_size
        )
        return new_width / width, new_height / height


def describe_split(
    data: CocoData, class_ids: Sequence[int], resized_to: ResizedTo
) -> dict[str, Any]:
    """Counts of one split, of plain values only.

    Args:
        data: the usable content of the split.
        class_ids: category ids of the classes.
        resized_to: to which images are resized, for the pyramid levels.
    """
    objects = data.objects
    per_class = {category_id: 0 for category_id in class_ids}
    per_image = {image["id"]: 0 for image in data.images}
    for a in objects:
        per_class[a["category_id"]] = per_class.get(a["category_id"], 0) + 1
        per_image[a["image_id"]] += 1
    sizes = [(image["width"], image["height"]) for image in data.images]
    return {
        "source": data.source,
        "images": len(data.images),
        "images_without_objects": data.num_empty_images,
        "image_sizes": {"smallest": min(sizes, key=_area), "largest": max(sizes, key=_area)}
        if sizes
        else {},
        "boxes": len(objects),
        "crowd_regions": len(data.annotations) - len(objects),
        "annotations_in_file": data.num_annotations_in_file,
        "boxes_per_area": count_areas(a["area"] for a in objects),
        "boxes_per_class": {
            c["name"]: per_class[c["id"]] for c in data.categories if c["id"] in class_ids
        },
        "boxes_per_image": _spread(list(per_image.values())),
        "boxes_per_level": boxes_per_level(resized_boxes(data, resized_to)),
    }


def resized_boxes(data: CocoData, resized_to: ResizedTo) -> torch.Tensor:
    """The objects' boxes in their resized images, XYXY pixels, (N, 4) float."""
    scales = {i["id"]: resized_to.scale(i["width"], i["height"]) for i in data.images}
    boxes = torch.tensor([a["bbox"] for a in data.objects], dtype=torch.float64).reshape(-1, 4)
    factors = torch.tensor([scales[a["image_id"]] for a in data.objects], dtype=torch.float64)
    boxes = boxes * factors.reshape(-1, 2).repeat(1, 2)
    return BoxMode.convert(boxes, BoxMode.XYWH_ABS, BoxMode.XYXY_ABS).float()  # (N, 4)


def boxes_per_level(boxes: torch.Tensor) -> dict[str, dict[str, int]]:
    """How many boxes fall to each pyramid level, for the R-CNN and the dense detectors.

    Args:
        boxes: (N, 4) XYXY pixels of resized images.

    Returns:
        for "rcnn_pooler" the levels that FPN's rule pools the boxes from, for "retinanet_anchors"
        and "atss_anchors" those whose anchor is nearest in size (the ratio of sqrt(area)).
    """
    lowest, highest = POOLER_LEVELS
    pooled = assign_boxes_to_levels(
        [Boxes(boxes)], lowest, highest, CANONICAL_SIZE, CANONICAL_LEVEL
    )  # (N,)
    return {
        "rcnn_pooler": _count(pooled, lowest, highest),
        "retinanet_anchors": _count(nearest_anchor_level(boxes, RETINANET_ANCHORS), 3, 7),
        "atss_anchors": _count(nearest_anchor_level(boxes, ATSS_ANCHORS), 3, 7),
    }


def nearest_anchor_level(
    boxes: torch.Tensor, sizes_per_level: Sequence[Sequence[float]]
) -> torch.Tensor:
    """For each box the index of the level with the anchor of the nearest size.

    Args:
        boxes: (N, 4) XYXY pixels.
        sizes_per_level: L lists of anchor sizes, the square roots of their areas in pixels.

    Returns:
        (N,) int64 in [0, L).
    """
    sizes = torch.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(dim=1)).clamp(min=1e-6)
    ratios = [
        (sizes[:, None] / torch.tensor(level, dtype=sizes.dtype)).log2().abs().amin(dim=1)
        for level in sizes_per_level
    ]
    return torch.stack(ratios, dim=1).argmin(dim=1)  # (N,)


def _count(levels: torch.Tensor, lowest: int, highest: int) -> dict[str, int]:
    counts = torch.bincount(levels, minlength=highest - lowest + 1)
    return {f"P{lowest + i}": int(n) for i, n in enumerate(counts)}


def _spread(counts: list[int]) -> dict[str, float]:
    if not counts:
        return {}
    return {
        "min": int(min(counts)),
        "median": float(np.median(counts)),
        "mean": round(float(np.mean(counts)), 2),
        "max": int(max(counts)),
    }


def _area(size: tuple[int, int]) -> int:
    return size[0] * size[1]
