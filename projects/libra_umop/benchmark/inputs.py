"""Drawn-up images, boxes and region proposals, so that neither data nor weights are needed."""

import re
from typing import Any, NamedTuple

import torch
from detectron2.config import CfgNode
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn

__all__ = ["Workload", "draw_proposals", "fix_proposals", "num_classes_of", "synthetic_batch"]

# How far a trained RPN's regions lie from the objects that they are about, as a part of the side:
# a few hit, most are near misses.
_NEAR_MISSES = (0.05, 0.1, 0.2, 0.4)


class Workload(NamedTuple):
    """What a step works on.

    Attributes:
        size: (H, W) of the images, in pixels.
        batch_size: images of a step.
        num_proposals: regions per image that every two-stage model is given in training, the same
            for all, as with random weights their number and size are luck; 0 leaves each model
            its own.
    """

    size: tuple[int, int]
    batch_size: int = 1
    num_proposals: int = 2000


def synthetic_batch(cfg: CfgNode, workload: Workload, seed: int = 0) -> list[dict[str, Any]]:
    """Noise images with 4 to 16 random boxes each, in Detectron2's format for training.

    The boxes' sides are spread log-uniformly from 16 px to the image's, so that every pyramid level
    has positives; their masks are the boxes' outlines.
    """
    generator = torch.Generator().manual_seed(seed)
    height, width = workload.size
    batch = []
    for _ in range(workload.batch_size):
        image = torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)
        count = int(torch.randint(4, 17, (1,), generator=generator))
        boxes = _log_uniform_boxes(count, workload.size, generator)
        instances = Instances((height, width), gt_boxes=Boxes(boxes))
        num_classes = num_classes_of(cfg)
        instances.gt_classes = torch.randint(0, num_classes, (count,), generator=generator)
        if cfg.MODEL.MASK_ON:
            instances.gt_masks = _box_masks(boxes, cfg.INPUT.MASK_FORMAT, (height, width))
        batch.append({"image": image, "instances": instances, "height": height, "width": width})
    return batch


def num_classes_of(cfg: CfgNode) -> int:
    """The fewest classes that any head of the config knows, so that a label suits each of them."""
    counts = re.findall(r"^\s*NUM_CLASSES: (\d+)$", cfg.MODEL.dump(), flags=re.MULTILINE)
    return min(int(count) for count in counts)


def draw_proposals(instances: Instances, num_proposals: int, seed: int = 0) -> Instances:
    """Regions such as a trained RPN gives: some about the objects, the others anywhere.

    Two fifths lie about the objects, moved and resized by 5 to 40 % of their sides; the others have
    sides spread log-uniformly from 16 px to the image's.

    Args:
        instances: an image's, with ``gt_boxes``.
        num_proposals: R.
        seed: of the drawing.

    Returns:
        ``proposal_boxes`` (R boxes inside the image) and ``objectness_logits`` (R,).
    """
    generator = torch.Generator().manual_seed(seed)
    height, width = instances.image_size
    gt_boxes = instances.gt_boxes.tensor.cpu()
    num_near = num_proposals * 2 // 5 if len(gt_boxes) else 0
    anywhere = _log_uniform_boxes(num_proposals - num_near, (height, width), generator)
    near = gt_boxes[torch.arange(num_near) % len(gt_boxes)] if num_near else gt_boxes
    scale = torch.tensor(_NEAR_MISSES)[torch.arange(num_near) % len(_NEAR_MISSES)][:, None]
    sides = near[:, 2:] - near[:, :2]
    centers = (near[:, :2] + near[:, 2:]) / 2
    centers = centers + sides * scale * torch.randn(num_near, 2, generator=generator)
    sides = sides * (scale * torch.randn(num_near, 2, generator=generator)).exp()
    near = torch.cat((centers - sides / 2, centers + sides / 2), dim=1)
    boxes = Boxes(torch.cat((near, anywhere)))
    boxes.clip((height, width))
    boxes.tensor[:, 2:] = boxes.tensor[:, 2:].maximum(boxes.tensor[:, :2] + 1)  # none empty
    logits = torch.randn(num_proposals, generator=generator)
    return Instances((height, width), proposal_boxes=boxes, objectness_logits=logits)


def fix_proposals(model: nn.Module, proposals: list[Instances]) -> None:
    """Have the proposal generator of ``model`` do all its work in training, and give these regions.

    Args:
        model: a two-stage detector; changed in place.
        proposals: of each image of the batch, see :func:`draw_proposals`.
    """

    def replace(module: nn.Module, inputs: Any, outputs: tuple[list[Instances], dict]):
        return (proposals, outputs[1]) if module.training else outputs

    model.get_submodule("proposal_generator").register_forward_hook(replace)


def _log_uniform_boxes(count: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """(count, 4) XYXY boxes inside (H, W), their sides log-uniform from 16 px to the image's."""
    height, width = size
    limits = torch.tensor([width, height], dtype=torch.float32)
    sides = 16 * (limits / 16) ** torch.rand(count, 2, generator=generator)
    corners = (limits - sides) * torch.rand(count, 2, generator=generator)
    return torch.cat((corners, corners + sides), dim=1)


def _box_masks(boxes: Tensor, mask_format: str, size: tuple[int, int]):
    from detectron2.structures import BitMasks, PolygonMasks

    polygons = [[b[[0, 1, 2, 1, 2, 3, 0, 3]].double().numpy()] for b in boxes]
    if mask_format == "polygon":
        return PolygonMasks(polygons)
    return BitMasks.from_polygon_masks(polygons, *size)
