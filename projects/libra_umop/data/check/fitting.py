"""Image and anchor sizes that follow the boxes of a dataset: proposed, and set where asked for.

Two rules. The shorter side is the smallest that leaves at most a tenth of the boxes below 16
pixels, the size at which a box covers two cells of the finest dense level (stride 8); never more
than the images have. The anchors of a config keep their ratios to each other and are scaled
together, so that a twentieth of the boxes is below the smallest; never below twice the stride of
the finest level (ATSS: four times), as smaller anchors send every box to a level too coarse for it.

Sizes are square roots of areas, in pixels.
"""

import math
from collections.abc import Set
from typing import Any, NamedTuple

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import get_detection_dataset_dicts
from detectron2.structures import BoxMode

from ...errors import ConfigError
from ..coco.document import CocoData
from .statistics import ResizedTo

__all__ = ["BoxSizes", "fit_to_data", "fitted_anchors", "proposal"]

SMALL_BOX_PX, SMALL_PART = 16.0, 0.10
BELOW_ANCHORS = 0.05
SIDE_STEP, SMALLEST_SIDE, LARGEST_SIDE = 32, 192, 800
ANCHOR_FREE = ("FCOS", "UMOPFCOS")
LIKE_ATSS = ("ATSS", "UMOPATSS", "GFL", "VFNet")
# How small the smallest anchor may be, in pixels. With 8 px at stride 8, ATSS had AP 0.2 on small
# fish after 120 iterations, with 32 px 2 to 4 after 150; the runs differed in learning rate too.
SMALLEST_ANCHOR = {"Faster R-CNN": 8.0, "RetinaNet": 16.0, "ATSS": 32.0}
# Unit anchors for the proposal without a config, by level.
USUAL_ANCHORS = {
    "Faster R-CNN": [[2.0**i] for i in range(5)],
    "RetinaNet": [[2.0 ** (i + k / 3) for k in range(3)] for i in range(5)],
    "ATSS": [[2.0**i] for i in range(5)],
}


class BoxSizes(NamedTuple):
    """N boxes and the images they lie in, all (N,) float64, pixels."""

    width: np.ndarray
    height: np.ndarray
    image_width: np.ndarray
    image_height: np.ndarray

    @classmethod
    def of_split(cls, data: CocoData) -> "BoxSizes":
        """Of a split as the dataset check reads it."""
        images = {image["id"]: image for image in data.images}
        rows = [
            (*a["bbox"][2:], images[a["image_id"]]["width"], images[a["image_id"]]["height"])
            for a in data.objects
        ]
        return cls(*np.array(rows, dtype=np.float64).reshape(-1, 4).T)

    @classmethod
    def of_dicts(cls, dicts: list[dict[str, Any]]) -> "BoxSizes":
        """Of Detectron2's dataset dicts; crowd regions are left out."""
        rows = []
        for d in dicts:
            for a in d.get("annotations", ()):
                if not a.get("iscrowd", 0):
                    box = BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYWH_ABS)
                    rows.append((*box[2:4], d["width"], d["height"]))
        return cls(*np.array(rows, dtype=np.float64).reshape(-1, 4).T)

    def resized(self, resized_to: ResizedTo) -> np.ndarray:
        """Sizes of the boxes in resized images, (N,)."""
        sides = zip(self.image_width.astype(int), self.image_height.astype(int), strict=True)
        scales = {side: resized_to.scale(*side) for side in set(sides)}
        sides = zip(self.image_width.astype(int), self.image_height.astype(int), strict=True)
        factors = np.array([math.sqrt(x * y) for x, y in map(scales.__getitem__, sides)])
        return np.sqrt(self.width * self.height) * factors


def fitted_side(boxes: BoxSizes) -> int:
    """The shorter side of images, in pixels, by the rule above; a multiple of 32."""
    shorter = np.minimum(boxes.image_width, boxes.image_height)
    # Size of each box relative to the shorter side: what resizing leaves as it is.
    relative = np.quantile(np.sqrt(boxes.width * boxes.height) / shorter, SMALL_PART)
    wanted = SIDE_STEP * math.ceil(SMALL_BOX_PX / relative / SIDE_STEP)
    own = SIDE_STEP * max(1, int(np.median(shorter)) // SIDE_STEP)
    return int(min(max(wanted, SMALLEST_SIDE), own, LARGEST_SIDE))


def fitted_anchors(
    sizes: list[list[float]], smallest: float, box_sizes: np.ndarray
) -> list[list[float]]:
    """Anchor sizes per level, scaled together by the rule above.

    Args:
        sizes: per level, as ``MODEL.ANCHOR_GENERATOR.SIZES``; only their ratios matter.
        smallest: what the smallest anchor may be at least, pixels.
        box_sizes: (N,), N > 0, pixels of resized images.
    """
    smallest = max(float(np.quantile(box_sizes, BELOW_ANCHORS)), smallest)
    factor = smallest / min(min(level) for level in sizes)
    return [[round(size * factor, 1) for size in level] for level in sizes]


def proposal(data: CocoData) -> dict[str, Any]:
    """Image side and anchors for a split; ``{}`` without boxes. Plain values, "lines" in words."""
    boxes = BoxSizes.of_split(data)
    if not len(boxes.width):
        return {}
    side = fitted_side(boxes)
    long_side = int(side * np.quantile(_elongation(boxes), 0.95))
    sizes = boxes.resized(ResizedTo(side, long_side))
    anchors = {
        name: fitted_anchors(levels, SMALLEST_ANCHOR[name], sizes)
        for name, levels in USUAL_ANCHORS.items()
    }
    low, median, high = np.quantile(sizes, (0.05, 0.5, 0.95))
    lines = [
        f'proposed image size: INPUT.MIN_SIZE_TRAIN "({side},)" INPUT.MIN_SIZE_TEST {side}'
        f" INPUT.MAX_SIZE_TRAIN {long_side} INPUT.MAX_SIZE_TEST {long_side}",
        f"  boxes, as square roots of their areas, are then {low:.0f} to {high:.0f} pixels for 90 %"
        f" of them, {median:.0f} in the middle",
        "proposed anchors at that size (train_net.py --fit-image-size --fit-anchors sets both):",
    ]
    lines += [f"  {name + ':':<14}{levels}" for name, levels in anchors.items()]
    return {"min_size": side, "max_size": long_side, "anchors": anchors, "lines": lines}


def fit_to_data(
    cfg: CfgNode, given: Set[str], *, anchors: bool = False, image_size: bool = False
) -> list[str]:
    """Do what ``--fit-anchors``, ``--fit-image-size`` ask for, in place; what was set, as lines.

    Raises:
        ConfigError: a detector without anchors, no boxes, or keys that are given as well.
    """
    if not (anchors or image_size):
        return []
    boxes = BoxSizes.of_dicts(
        get_detection_dataset_dicts(cfg.DATASETS.TRAIN, check_consistency=False)
    )
    if not len(boxes.width):
        raise ConfigError("--fit-anchors, --fit-image-size: the training set has no boxes")
    lines = _set_side(cfg, boxes, given) if image_size else []
    return lines + (_set_anchors(cfg, boxes, given) if anchors else [])


def _set_side(cfg: CfgNode, boxes: BoxSizes, given: Set[str]) -> list[str]:
    keys = ["INPUT.MIN_SIZE_TRAIN", "INPUT.MAX_SIZE_TRAIN"]
    keys += ["INPUT.MIN_SIZE_TEST", "INPUT.MAX_SIZE_TEST"]
    _refuse_given("--fit-image-size", keys, given)
    side = fitted_side(boxes)
    longest = int(side * np.quantile(_elongation(boxes), 0.95))
    node = cfg.INPUT
    node.MIN_SIZE_TRAIN, node.MIN_SIZE_TEST = (side,), side
    node.MAX_SIZE_TRAIN = node.MAX_SIZE_TEST = longest
    where = ", ".join(keys)
    return [f"--fit-image-size: shorter side {side}, longer at most {longest}, in {where}"]


def _set_anchors(cfg: CfgNode, boxes: BoxSizes, given: Set[str]) -> list[str]:
    key = "MODEL.ANCHOR_GENERATOR.SIZES"
    _refuse_given("--fit-anchors", [key], given)
    if cfg.MODEL.META_ARCHITECTURE in ANCHOR_FREE:
        raise ConfigError(
            f"--fit-anchors: MODEL.META_ARCHITECTURE is {cfg.MODEL.META_ARCHITECTURE}, which has no"
            " anchors; leave it out"
        )
    levels = cfg.MODEL.ANCHOR_GENERATOR.SIZES
    levels = levels if isinstance(levels[0], (list, tuple)) else [levels]  # one list for all levels
    old = [list(level) for level in levels]
    sizes = boxes.resized(ResizedTo.from_config(cfg))
    name = cfg.MODEL.META_ARCHITECTURE
    kind = "RetinaNet" if "RetinaNet" in name else "Faster R-CNN"
    kind = "ATSS" if name in LIKE_ATSS else kind
    new = fitted_anchors(old, SMALLEST_ANCHOR[kind], sizes)
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = new
    return [
        f"--fit-anchors: {key} {new}, was {old}; boxes of the training set are"
        f" {np.quantile(sizes, 0.05):.0f} to {np.quantile(sizes, 0.95):.0f} pixels (90 %)"
    ]


def _refuse_given(option: str, keys: list[str], given: Set[str]) -> None:
    clash = sorted(given & set(keys))
    if clash:
        raise ConfigError(f"{option} and {clash[0]} say the same thing twice; give one")


def _elongation(boxes: BoxSizes) -> np.ndarray:
    """Longer over shorter side of each box's image, (N,)."""
    longer = np.maximum(boxes.image_width, boxes.image_height)
    return longer / np.minimum(boxes.image_width, boxes.image_height)
