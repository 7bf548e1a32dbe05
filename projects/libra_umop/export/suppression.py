"""Greedy non-maximum suppression in which no shape follows the data.

Two ways: few picks out of any number of candidates, one after the other, which equals Detectron2's;
and any number of survivors among the best few thousand, all at once in a number of rounds, which
does where the rounds are enough.
"""

import torch
from torch import Tensor

# A score that no detection has: of what fills a fixed number of places.
FILLING = -1.0


def pick_best(
    boxes: Tensor, scores: Tensor, classes: Tensor, threshold: float, count: int
) -> tuple[Tensor, Tensor]:
    """Greedy non-maximum suppression by class, for a fixed number of picks.

    As :func:`detectron2.layers.batched_nms` cut at ``count``, written out pick by pick.

    Args:
        boxes: (C, 4) XYXY. scores: (C,), below 0 for no candidate. classes: (C,).
        threshold: an IoU above it suppresses.

    Returns:
        Indices of the picks and their scores, (min(count, C),) each, by descending score; a score
        is FILLING from where no candidate is left.
    """
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    places = torch.arange(int(boxes.shape[0]), device=boxes.device)
    nothing = torch.full_like(scores, FILLING)
    left = scores.where(scores > 0, nothing)[None]  # TensorRT finds no maximum along the only axis
    picks, values = [], []
    for _ in range(min(count, int(boxes.shape[0]))):
        value, pick = left.max(dim=1)
        top_left = torch.maximum(boxes[:, :2], boxes[pick, :2])
        bottom_right = torch.minimum(boxes[:, 2:], boxes[pick, 2:])
        overlap = (bottom_right - top_left).clamp(min=0).prod(dim=1)
        iou = overlap / (areas + areas[pick] - overlap)
        is_out = (iou > threshold) & (classes == classes[pick]) | (places == pick)
        left = nothing.where(is_out, left)
        picks.append(pick)
        values.append(value)
    return torch.cat(picks), torch.cat(values)


def survivors(boxes: Tensor, threshold: float, rounds: int) -> Tensor:
    """Which boxes greedy non-maximum suppression keeps, all of them decided at once.

    A box stays unless an earlier one that stays overlaps it. Each round decides anew for all boxes
    with what the last one kept; a box is settled one round after those before it that overlap it.
    As many rounds as there are boxes are always enough. Among candidates of a region proposal
    network each kept box settles its whole neighbourhood, and a few rounds are.

    Args:
        boxes: (N, C, 4) XYXY of N images, by descending score.
        threshold: an IoU above it suppresses.

    Returns:
        (N, C) bool; of boxes without an area, which overlap nothing, true.
    """
    areas = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    top_left = torch.maximum(boxes[:, :, None, :2], boxes[:, None, :, :2])
    bottom_right = torch.minimum(boxes[:, :, None, 2:], boxes[:, None, :, 2:])
    overlap = (bottom_right - top_left).clamp(min=0).prod(dim=3)  # (N, C, C)
    union = areas[:, :, None] + areas[:, None] - overlap
    suppresses = (overlap > threshold * union).to(boxes.dtype).tril(-1)  # [n, later, earlier]
    kept = torch.ones_like(areas)[..., None]
    for _ in range(min(rounds, int(boxes.shape[1]))):
        kept = (suppresses @ kept < 0.5).to(boxes.dtype)
    return kept[..., 0] > 0.5
