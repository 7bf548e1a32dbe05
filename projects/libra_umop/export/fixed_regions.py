"""The second stage of a two-stage detector with as many regions whatever the data.

The region proposal network gives its full number of regions, filled up with ones that are left out
of the detections, and every region is pooled from every level, of which one is taken.
"""

import contextlib
from collections.abc import Iterator
from unittest import mock

import torch
from detectron2.modeling.poolers import ROIPooler, assign_boxes_to_levels
from detectron2.modeling.proposal_generator import rpn
from detectron2.modeling.roi_heads import cascade_rcnn, fast_rcnn
from detectron2.structures import Boxes, Instances
from torch import Tensor

from .suppression import FILLING, pick_best, survivors

# Of suppression among a level's candidates.
ROUNDS = 64


@contextlib.contextmanager
def fixed_regions() -> Iterator[None]:
    """Within this context the parts of a two-stage detector have shapes that no data decide."""
    is_region: list[Tensor] = []  # (R,) bool of each image, from the proposals to the detections

    def propose(*args, **kwargs):
        proposals = _propose(*args, **kwargs)
        is_region[:] = [p.objectness_logits > -torch.inf for p in proposals]
        return proposals

    def infer(boxes, scores, image_shapes, score_thresh, nms_thresh, topk_per_image):
        scores = [s * real[:, None] for s, real in zip(scores, is_region, strict=True)]
        limits = (score_thresh, nms_thresh, topk_per_image)
        found = [_detect(*each, *limits) for each in zip(boxes, scores, image_shapes, strict=True)]
        return found, [None] * len(found)

    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(rpn, "find_top_rpn_proposals", propose))
        stack.enter_context(mock.patch.object(ROIPooler, "forward", _pool))
        for module in (fast_rcnn, cascade_rcnn):
            stack.enter_context(mock.patch.object(module, "fast_rcnn_inference", infer))
        yield


def _propose(
    proposals,
    pred_objectness_logits,
    image_sizes,
    nms_thresh,
    pre_nms_topk,
    post_nms_topk,
    min_box_size,
    training,
) -> list[Instances]:
    """As :func:`find_top_rpn_proposals`; what fills up has a logit of minus infinity."""
    kept_boxes, kept_logits = [], []
    for level_boxes, level_logits in zip(proposals, pred_objectness_logits, strict=True):
        logits, index = level_logits.topk(min(pre_nms_topk, int(level_logits.shape[1])), dim=1)
        boxes = torch.stack([b[i] for b, i in zip(level_boxes, index, strict=True)])
        boxes = _clipped(boxes, image_sizes[0])
        sides = boxes[..., 2:] - boxes[..., :2]
        # Without an area it suppresses nothing, as if it had been left out.
        is_large = (sides > min_box_size).all(dim=-1)
        boxes = boxes * is_large[..., None]
        kept = is_large & survivors(boxes, nms_thresh, ROUNDS)
        kept_boxes.append(boxes)
        kept_logits.append(logits.where(kept, torch.full_like(logits, -torch.inf)))
    all_boxes, all_logits = torch.cat(kept_boxes, dim=1), torch.cat(kept_logits, dim=1)
    logits, index = all_logits.topk(min(post_nms_topk, int(all_logits.shape[1])), dim=1)
    return [
        Instances(size, proposal_boxes=Boxes(boxes[i]), objectness_logits=values)
        for size, boxes, i, values in zip(image_sizes, all_boxes, index, logits, strict=True)
    ]


def _pool(self: ROIPooler, x: list[Tensor], box_lists: list[Boxes]) -> Tensor:
    """As :meth:`ROIPooler.forward`: from every level, of which each region takes its own."""
    images = [torch.full_like(b.tensor[:, :1], i) for i, b in enumerate(box_lists)]
    rois = torch.cat([torch.cat(images), torch.cat([b.tensor for b in box_lists])], dim=1)
    pooled = [
        pooler(features, rois) for pooler, features in zip(self.level_poolers, x, strict=True)
    ]
    if len(pooled) == 1:
        return pooled[0]
    levels = assign_boxes_to_levels(
        box_lists, self.min_level, self.max_level, self.canonical_box_size, self.canonical_level
    )[:, None, None, None]
    output = pooled[0]
    for level in range(1, len(pooled)):
        output = pooled[level].where(levels == level, output)
    return output


def _detect(
    boxes: Tensor,
    scores: Tensor,
    image_shape: tuple[int, int],
    score_thresh: float,
    nms_thresh: float,
    topk_per_image: int,
) -> Instances:
    """As :func:`fast_rcnn_inference_single_image`; what fills up has the score FILLING."""
    num_regions, num_classes = int(scores.shape[0]), int(scores.shape[1]) - 1
    scores = scores[:, :-1].reshape(-1)
    boxes = boxes.reshape(num_regions, -1, 4).expand(-1, num_classes, -1).reshape(-1, 4)
    boxes = _clipped(boxes, image_shape)
    classes = torch.arange(num_classes, device=boxes.device).repeat(num_regions)
    scores = scores.where(scores > score_thresh, torch.full_like(scores, FILLING))
    picks, values = pick_best(boxes, scores, classes, nms_thresh, topk_per_image)
    return Instances(
        image_shape, pred_boxes=Boxes(boxes[picks]), scores=values, pred_classes=classes[picks]
    )


def _clipped(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    height, width = size
    x, y = boxes[..., 0::2].clamp(0, width), boxes[..., 1::2].clamp(0, height)
    return torch.stack([x, y], dim=-1).flatten(-2)
