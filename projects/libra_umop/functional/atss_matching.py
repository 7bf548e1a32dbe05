"""Adaptive training sample selection: which anchors learn from which box (ATSS, section 3).

Letters: R anchors of all L levels, M ground-truth boxes, C candidates per box.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["atss_match", "centerness_target"]

# Anchor centres closer than this to an edge count as outside: their centerness would be ~0. The
# same margin as in the released code.
_EDGE_MARGIN_PX = 0.01


@torch.no_grad()
def atss_match(
    anchors: Tensor, num_anchors_per_level: Sequence[int], gt_boxes: Tensor, *, topk: int = 9
) -> Tensor:
    """Match anchors to ground-truth boxes by the statistics of each box's own candidates.

    A box's candidates are, on each level, the ``topk`` anchors whose centres are nearest to its
    own (L2). Its positives are the candidates with IoU >= mean + standard deviation (unbiased; 0
    for a single candidate) of all its candidates' IoUs whose centre lies inside the box. An anchor
    that several boxes claim goes to the one with the larger IoU, of equals to the first. Does not
    wait for the device; the distances (M, R) are the largest temporary.

    Args:
        anchors: (R, 4) XYXY pixels, level by level.
        num_anchors_per_level: L integers that add up to R; a level may hold fewer than ``topk``.
        gt_boxes: (M, 4) XYXY pixels; M may be 0.
        topk: candidates per box and level, >= 1.

    Returns:
        (R,) int64: index of the matched box in [0, M), -1 for background.

    Raises:
        ValueError: if ``topk`` is below 1 or the level sizes do not add up to R.

    Examples:
        >>> anchors = torch.tensor([[0.0, 0, 10, 10], [8, 8, 18, 18], [60, 60, 90, 90]])
        >>> boxes = torch.tensor([[0.0, 0, 10, 10]])
        >>> atss_match(anchors, [2, 1], boxes, topk=2)  # IoUs 1, 0.02, 0: at least 0.34 + 0.57
        tensor([ 0, -1, -1])
    """
    if topk < 1:
        raise ValueError(f"topk is {topk}, should be >= 1")
    if sum(num_anchors_per_level) != len(anchors):
        raise ValueError(
            f"num_anchors_per_level is {list(num_anchors_per_level)}, should add up to the"
            f" {len(anchors)} anchors"
        )
    num_gt = len(gt_boxes)
    matched_idxs = torch.full((len(anchors),), -1, dtype=torch.int64, device=anchors.device)
    if num_gt == 0 or len(anchors) == 0:
        return matched_idxs

    candidate_idxs = _nearest_anchors(anchors, num_anchors_per_level, gt_boxes, topk)  # (M, C)
    candidates = anchors[candidate_idxs]  # (M, C, 4)
    ious = _iou(candidates, gt_boxes[:, None, :])  # (M, C)
    std = ious.std(dim=1, keepdim=True) if ious.shape[1] > 1 else 0.0
    is_pos = ious >= ious.mean(dim=1, keepdim=True) + std
    is_pos &= _center_offsets(candidates, gt_boxes[:, None, :]).amin(dim=-1) > _EDGE_MARGIN_PX

    # Each anchor's largest IoU among the boxes that claim it, then the first box that has it.
    flat_idxs, claim = candidate_idxs.flatten(), torch.where(is_pos, ious, -1.0).flatten()
    best = ious.new_full((len(anchors),), -1.0)
    best.scatter_reduce_(0, flat_idxs, claim, reduce="amax")
    wins = is_pos.flatten() & (claim == best[flat_idxs])
    box_idxs = torch.arange(num_gt, device=anchors.device)[:, None].expand_as(ious).flatten()
    first = torch.full_like(matched_idxs, num_gt)
    first.scatter_reduce_(0, flat_idxs, torch.where(wins, box_idxs, num_gt), reduce="amin")
    return torch.where(first < num_gt, first, matched_idxs)


def _nearest_anchors(
    anchors: Tensor, num_anchors_per_level: Sequence[int], gt_boxes: Tensor, topk: int
) -> Tensor:
    """(M, C): for each box the ``topk`` nearest anchors of each level, C <= L * topk."""
    centers = (anchors[:, :2] + anchors[:, 2:]) / 2  # (R, 2)
    gt_centers = (gt_boxes[:, :2] + gt_boxes[:, 2:]) / 2  # (M, 2)
    # Over all levels at once, as on a GPU what takes time here is launching.
    dx = gt_centers[:, 0, None] - centers[None, :, 0]  # (M, R)
    dy = gt_centers[:, 1, None] - centers[None, :, 1]
    distance = dx.square_().add_(dy.square_()).sqrt_()
    nearest: list[Tensor] = []
    start = 0
    for level in distance.split(list(num_anchors_per_level), dim=1):
        nearest.append(level.topk(min(topk, level.shape[1]), largest=False).indices + start)
        start += level.shape[1]
    return torch.cat(nearest, dim=1)


def _iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Intersection over union of boxes (..., 4) that broadcast; 0 where both are empty."""
    overlap = torch.min(boxes1[..., 2:], boxes2[..., 2:]) - torch.max(
        boxes1[..., :2], boxes2[..., :2]
    )
    inter = overlap.clamp_(min=0).prod(dim=-1)
    area1 = (boxes1[..., 2:] - boxes1[..., :2]).prod(dim=-1)
    area2 = (boxes2[..., 2:] - boxes2[..., :2]).prod(dim=-1)
    return inter / (area1 + area2 - inter).clamp(min=1e-6)


def _center_offsets(anchors: Tensor, gt_boxes: Tensor) -> Tensor:
    """(..., 4): pixels from the anchors' centres to the left, top, right, bottom edge."""
    centers = (anchors[..., :2] + anchors[..., 2:]) / 2
    return torch.cat((centers - gt_boxes[..., :2], gt_boxes[..., 2:] - centers), dim=-1)


@torch.no_grad()
def centerness_target(anchors: Tensor, gt_boxes: Tensor) -> Tensor:
    """How central an anchor's centre is in its box (FCOS, equation 3).

    ``sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b))``, of the distances to the four sides.

    Args:
        anchors, gt_boxes: (..., 4) XYXY pixels, box i for anchor i.

    Returns:
        (...): in [0, 1]; 0 where the centre is not inside the box or the box is empty.

    Examples:
        >>> anchors = torch.tensor([[4.0, 4, 6, 6], [0.0, 4, 2, 6]])  # centres (5, 5) and (1, 5)
        >>> centerness_target(anchors, torch.tensor([[0.0, 0, 10, 10]]))  # 1 and sqrt(1 / 9)
        tensor([1.0000, 0.3333])
    """
    left, top, right, bottom = _center_offsets(anchors, gt_boxes).clamp(min=0).unbind(dim=-1)
    horizontal = torch.min(left, right) / torch.max(left, right).clamp(min=1e-6)
    vertical = torch.min(top, bottom) / torch.max(top, bottom).clamp(min=1e-6)
    return (horizontal * vertical).sqrt()
