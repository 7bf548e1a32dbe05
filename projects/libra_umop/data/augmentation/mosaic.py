"""Mosaic: four training images in one, so that a step sees more objects, scenes and borders.

As Bochkovskiy et al., YOLOv4 (arXiv 2004.10934, section 3.3) mix four images around a random point.
Here each of them is first made as training makes it alone, so that its objects have the size that
they have without, and the mosaic has the size of the first, which keeps the batch's shape.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks
from torch import Tensor

from ...modeling.ignore_regions import InstancesWithRegions
from .crops import Crop

__all__ = ["Mosaic", "cut_out", "join"]

MIDDLE = (0.2, 0.8)  # of width and height: where the four images may meet
# Of an object that a border cuts, what has to be left for it to stay a label.
MIN_PART = 0.1  # of its box's area
MIN_SIDE_PX = 2  # of each side of its box

Window = tuple[int, int, int, int]  # XYXY pixels


class Mosaic:
    """A dataset mapper that joins what another mapper makes of four images.

    It draws from numpy's generator alone, after all that the first image has drawn.

    Args:
        mapper: makes a training sample, with "image" and "instances", of a dataset dict.
        dataset_dicts: where the three other images come from.
        prob: how probably a sample is a mosaic.
        fill: pixel value, one for each channel, where an image is smaller than its place.
        weights: of each dict, how often it is drawn; None: all alike.
    """

    def __init__(
        self,
        mapper: Callable[[dict[str, Any]], dict[str, Any]],
        dataset_dicts: Sequence[dict[str, Any]],
        *,
        prob: float = 1.0,
        fill: Sequence[float] = (0.0, 0.0, 0.0),
        weights: Sequence[float] | None = None,
    ):
        self._mapper = mapper
        self._dataset_dicts = dataset_dicts
        self._prob = prob
        self._fill = list(fill)
        # One number is drawn and looked up, as np.random.choice takes time for the whole set.
        self._cumulative = np.cumsum(weights, dtype=np.float64) if weights is not None else None

    @classmethod
    def from_config(cls, cfg: CfgNode, *args: Any, **kwargs: Any) -> "Mosaic":
        """As ``INPUT.MOSAIC`` says; the other arguments are those of the class."""
        return cls(*args, prob=cfg.INPUT.MOSAIC.PROB, fill=cfg.MODEL.PIXEL_MEAN, **kwargs)

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """A training sample; "file_name" of a mosaic names all four files.

        Raises:
            DatasetError: one of the images cannot be used.
        """
        sample = self._mapper(dataset_dict)
        if np.random.rand() >= self._prob:
            return sample
        samples = [sample, *(self._mapper(self._draw()) for _ in range(3))]
        height, width = sample["image"].shape[1:]
        middle = [int(np.random.uniform(*MIDDLE) * side) for side in (width, height)]
        image, instances = join(samples, (middle[0], middle[1]), self._fill)
        names = " + ".join(str(s.get("file_name", "?")) for s in samples)
        return {**sample, "file_name": names, "image": image, "instances": instances}

    def _draw(self) -> dict[str, Any]:
        if self._cumulative is None:
            return self._dataset_dicts[np.random.randint(len(self._dataset_dicts))]
        at = np.random.rand() * self._cumulative[-1]
        return self._dataset_dicts[int(np.searchsorted(self._cumulative, at, side="right"))]


def join(
    samples: Sequence[dict[str, Any]], middle: tuple[int, int], fill: Sequence[float]
) -> tuple[Tensor, Instances]:
    """Four samples as one of the first one's size.

    Of an image that is larger than its place, a random part as large as the place is shown; of a
    smaller one all, at the point where the four meet.

    Args:
        samples: "image" (C, H, W) and "instances" of the upper left, upper right, lower left and
            lower right.
        middle: x and y of the point where they meet, in pixels of the first image.
        fill: pixel value, one for each channel, where an image is smaller than its place.

    Returns:
        the image, and its objects; those that a border cuts are cut, see :func:`cut_out`.
    """
    first = samples[0]["image"]
    height, width = first.shape[1:]
    canvas = torch.empty_like(first)
    canvas[:] = torch.tensor(fill).round()[:, None, None]
    parts = []
    for k, sample in enumerate(samples):
        image, (right, below) = sample["image"], (k % 2, k // 2)
        x, w, from_x = _place(image.shape[2], middle[0], width, after=bool(right))
        y, h, from_y = _place(image.shape[1], middle[1], height, after=bool(below))
        canvas[:, y : y + h, x : x + w] = image[:, from_y : from_y + h, from_x : from_x + w]
        window = (from_x, from_y, from_x + w, from_y + h)
        parts.append(cut_out(sample["instances"], window, (x, y), (height, width)))
    return canvas, _together(parts)


def _place(length: int, middle: int, whole: int, *, after: bool) -> tuple[int, int, int]:
    """Along an axis: where an image is put, how much of it, and from where in it."""
    room = whole - middle if after else middle
    shown = min(room, length)
    start = np.random.randint(length - shown + 1)
    return (middle if after else middle - shown), shown, start


def cut_out(
    instances: Instances, window: Window, to: tuple[int, int], image_size: tuple[int, int]
) -> Instances:
    """The objects of a part of an image, where that part is put into another.

    An object that the window's border cuts has the box of what is left of it: of its mask, if it
    has one, else of its box. It is dropped if that has less than a tenth of its box's area, or
    less than 2 pixels a side.

    Args:
        instances: with ``gt_boxes``, ``gt_classes`` and perhaps ``gt_masks``.
        window: the part, XYXY pixels.
        to: x and y of its upper left corner in the other image.
        image_size: (height, width) of the other image.

    Returns:
        the objects that are left, of the type that ``instances`` has.
    """
    x0, y0, x1, y1 = window
    whole = instances.gt_boxes.tensor
    low, high = whole.new_tensor([x0, y0]), whole.new_tensor([x1, y1])
    boxes = torch.cat([whole[:, :2].maximum(low), whole[:, 2:].minimum(high)], dim=1)
    is_cut = (boxes != whole).any(dim=1)
    fields = dict(instances.get_fields())
    seen = torch.ones_like(is_cut)
    if instances.has("gt_masks"):
        fields["gt_masks"] = masks = _cut_masks(instances.gt_masks, window, to, image_size)
        seen = masks.nonempty()
        to_put = whole.new_tensor([x0 - to[0], y0 - to[1]]).repeat(2)
        of_masks = masks.get_bounding_boxes().tensor.to(boxes) + to_put
        boxes = torch.where((is_cut & seen)[:, None], of_masks, boxes)
    sides = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0)
    is_large = (sides >= MIN_SIDE_PX).all(dim=1)
    is_large &= sides.prod(dim=1) >= MIN_PART * instances.gt_boxes.area()
    kept = seen & (~is_cut | is_large)
    fields["gt_boxes"] = Boxes(boxes + whole.new_tensor([to[0] - x0, to[1] - y0]).repeat(2))
    if not isinstance(instances, InstancesWithRegions):
        return Instances(image_size, **fields)[kept]
    regions = instances.ignore_boxes.tensor
    regions = Boxes(torch.cat([regions[:, :2].maximum(low), regions[:, 2:].minimum(high)], dim=1))
    regions = regions[regions.nonempty()]
    regions.tensor += whole.new_tensor([to[0] - x0, to[1] - y0]).repeat(2)
    return InstancesWithRegions(image_size, ignore_boxes=regions, **fields)[kept]


def _cut_masks(
    masks: PolygonMasks | BitMasks, window: Window, to: tuple[int, int], image_size: tuple[int, int]
) -> PolygonMasks | BitMasks:
    x0, y0, x1, y1 = window
    if isinstance(masks, BitMasks):
        cut = masks.tensor.new_zeros(len(masks), *image_size)
        cut[:, to[1] : to[1] + y1 - y0, to[0] : to[0] + x1 - x0] = masks.tensor[:, y0:y1, x0:x1]
        return BitMasks(cut)
    crop = Crop(x0, y0, x1 - x0, y1 - y0)
    cut_polygons = []
    for polygons in masks.polygons:
        left = crop.apply_polygons([p.reshape(-1, 2) for p in polygons])
        cut_polygons.append([(p + np.array(to)).reshape(-1) for p in left])
    return PolygonMasks(cut_polygons)


def _together(parts: Sequence[Instances]) -> Instances:
    """All objects and regions; images without objects have no masks, and are left out."""
    objects = Instances.cat([part for part in parts if len(part)] or [parts[0]])
    fields = objects.get_fields()
    if not isinstance(parts[0], InstancesWithRegions):
        return Instances(parts[0].image_size, **fields)
    regions = Boxes.cat([getattr(part, "ignore_boxes") for part in parts])  # noqa: B009
    return InstancesWithRegions(parts[0].image_size, ignore_boxes=regions, **fields)
