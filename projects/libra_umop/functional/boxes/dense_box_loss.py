"""Box losses of dense detectors, elementwise.

The positives are chosen by a weight, not by an index, so nothing here waits for the device or
depends on the number of positives.

Boxes: (..., 4) XYXY pixels.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["IOU_LOSSES", "box_deltas", "box_iou", "ciou_loss", "diou_loss", "giou_loss"]


def giou_loss(pred_boxes: Tensor, gt_boxes: Tensor, *, eps: float = 1e-7) -> Tensor:
    """``1 - GIoU`` (Rezatofighi et al., CVPR 2019, algorithm 1) of box i with box i.

    GIoU = IoU - (hull - union) / hull, hull the smallest box around both; the loss is in [0, 2].
    Boxes may be empty or apart; the gradient stays finite.

    Args:
        pred_boxes, gt_boxes: (..., 4) XYXY pixels with x1 <= x2, y1 <= y2.
        eps: added to both denominators, in square pixels.

    Returns:
        (...): the loss of each pair.

    Examples:
        >>> box = torch.tensor([0.0, 0, 10, 10])
        >>> giou_loss(torch.stack((box, box + 20)), box)  # apart: 1 - 0 + (900 - 200) / 900
        tensor([0.0000, 1.7778])
    """
    iou, union, outer = _overlap(pred_boxes, gt_boxes, eps)
    hull = _area(outer)
    return 1 - iou + (hull - union) / (hull + eps)


def diou_loss(pred_boxes: Tensor, gt_boxes: Tensor, *, eps: float = 1e-7) -> Tensor:
    """``1 - IoU + (d / c)^2`` (Zheng et al., https://arxiv.org/abs/1911.08287, equation 7).

    d is the distance of the centres, c the diagonal of the smallest box around both. The values
    and gradients of :func:`detectron2.layers.diou_loss`, which waits for the device and stops at a
    box that is not a number.

    Args:
        pred_boxes, gt_boxes, eps: see :func:`giou_loss`.

    Returns:
        (...): the loss of each pair, in [0, 2].

    Examples:
        >>> box = torch.tensor([0.0, 0, 10, 10])
        >>> diou_loss(torch.stack((box, box + 20)), box)  # apart: 1 - 0 + 800 / 1800
        tensor([0.0000, 1.4444])
    """
    return _diou_loss(pred_boxes, gt_boxes, eps)[0]


def ciou_loss(pred_boxes: Tensor, gt_boxes: Tensor, *, eps: float = 1e-7) -> Tensor:
    """DIoU with the aspect ratio (Zheng et al., https://arxiv.org/abs/1911.08287, equation 10).

    ``1 - IoU + (d / c)^2 + alpha v``, v = 4 / pi^2 (atan(w_gt / h_gt) - atan(w / h))^2 and
    alpha = v / (1 - IoU + v), which has no gradient. The values and gradients of
    :func:`detectron2.layers.ciou_loss` for boxes of at least ``eps`` pixels height, without its
    waiting; finite also for flatter ones.

    Args:
        pred_boxes, gt_boxes, eps: see :func:`giou_loss`.

    Returns:
        (...): the loss of each pair, in [0, 3].

    Examples:
        >>> box = torch.tensor([0.0, 0, 10, 10])
        >>> wide = torch.tensor([0.0, 0, 20, 5])
        >>> diou_loss(wide, box), ciou_loss(wide, box)  # of another aspect ratio, too
        (tensor(0.7292), tensor(0.7470))
    """
    loss, iou = _diou_loss(pred_boxes, gt_boxes, eps)
    angles = []
    for boxes in (gt_boxes, pred_boxes):
        w, h = (boxes[..., 2:] - boxes[..., :2]).unbind(dim=-1)
        angles.append((w / h.clamp(min=eps)).atan())
    v = 4 / math.pi**2 * (angles[0] - angles[1]) ** 2
    alpha = (v / (1 - iou + v + eps)).detach()
    return loss + alpha * v


IOU_LOSSES = {"giou": giou_loss, "diou": diou_loss, "ciou": ciou_loss}


def box_iou(pred_boxes: Tensor, gt_boxes: Tensor, *, eps: float = 1e-7) -> Tensor:
    """IoU of box i with box i, (...); arguments as for :func:`giou_loss`.

    Examples:
        >>> box = torch.tensor([0.0, 0, 10, 10])
        >>> box_iou(torch.stack((box, box + 5)), box)  # 1 and 25 / 175
        tensor([1.0000, 0.1429])
    """
    return _overlap(pred_boxes, gt_boxes, eps)[0]


def _diou_loss(pred_boxes: Tensor, gt_boxes: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """DIoU loss and IoU of box i with box i, (...)."""
    iou, _, outer = _overlap(pred_boxes, gt_boxes, eps)
    centers = [(boxes[..., 2:] + boxes[..., :2]) / 2 for boxes in (pred_boxes, gt_boxes)]
    distance = (centers[0] - centers[1]).square().sum(dim=-1)
    return 1 - iou + distance / (outer.square().sum(dim=-1) + eps), iou


def _overlap(pred_boxes: Tensor, gt_boxes: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """IoU and union of box i with box i, (...), and the smallest box around both, (..., 2)."""
    inner = torch.min(pred_boxes[..., 2:], gt_boxes[..., 2:]) - torch.max(
        pred_boxes[..., :2], gt_boxes[..., :2]
    )
    outer = torch.max(pred_boxes[..., 2:], gt_boxes[..., 2:]) - torch.min(
        pred_boxes[..., :2], gt_boxes[..., :2]
    )
    inter = _area(inner.clamp(min=0))
    union = (
        _area(pred_boxes[..., 2:] - pred_boxes[..., :2])
        + _area(gt_boxes[..., 2:] - gt_boxes[..., :2])
        - inter
    )
    return inter / (union + eps), union, outer


def _area(wh: Tensor) -> Tensor:
    """Width times height of (..., 2); the backward of ``prod`` is slower."""
    return wh[..., 0] * wh[..., 1]


@torch.no_grad()
def box_deltas(anchors: Tensor, boxes: Tensor, *, weights: Sequence[float]) -> Tensor:
    """The deltas (dx, dy, dw, dh) that turn anchors into boxes (Fast R-CNN, appendix C).

    The same as :meth:`detectron2.modeling.box_regression.Box2BoxTransform.get_deltas` without its
    check of the anchors, which waits for the device.

    Args:
        anchors, boxes: (..., 4) XYXY pixels that broadcast, of positive width and height.
        weights: the four factors (wx, wy, ww, wh).

    Returns:
        (..., 4).

    Examples:
        >>> anchor, box = torch.tensor([0.0, 0, 10, 10]), torch.tensor([5.0, 0, 15, 20])
        >>> box_deltas(anchor, box, weights=(1, 1, 1, 1))  # 5 / 10, 5 / 10, ln 1, ln 2
        tensor([0.5000, 0.5000, 0.0000, 0.6931])
    """
    anchor_wh = anchors[..., 2:] - anchors[..., :2]
    box_wh = boxes[..., 2:] - boxes[..., :2]
    shift = (boxes[..., :2] + 0.5 * box_wh - anchors[..., :2] - 0.5 * anchor_wh) / anchor_wh
    scale = (box_wh / anchor_wh).log()
    (dx, dy), (dw, dh) = shift.unbind(dim=-1), scale.unbind(dim=-1)
    wx, wy, ww, wh = weights
    return torch.stack((dx * wx, dy * wy, dw * ww, dh * wh), dim=-1)
