"""Box losses of dense detectors, elementwise: the positives are chosen by a weight, not by an
index, so nothing here waits for the device or depends on the number of positives.

Boxes: (..., 4) XYXY pixels.
"""

from typing import Sequence

import torch
from torch import Tensor

__all__ = ["box_deltas", "giou_loss"]


def giou_loss(pred_boxes: Tensor, gt_boxes: Tensor, *, eps: float = 1e-7) -> Tensor:
    """``1 - GIoU`` (Rezatofighi et al., CVPR 2019, algorithm 1) of box i with box i.

    GIoU = IoU - (hull - union) / hull, hull the smallest box around both; the loss is in [0, 2].
    Boxes may be empty or apart; the gradient stays finite.

    Args:
        pred_boxes, gt_boxes: (..., 4) XYXY pixels with x1 <= x2, y1 <= y2.
        eps: added to both denominators, in square pixels.

    Returns:
        (...): the loss of each pair.
    """
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
    hull = _area(outer)
    return 1 - inter / (union + eps) + (hull - union) / (hull + eps)


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
    """
    anchor_wh = anchors[..., 2:] - anchors[..., :2]
    box_wh = boxes[..., 2:] - boxes[..., :2]
    shift = (boxes[..., :2] + 0.5 * box_wh - anchors[..., :2] - 0.5 * anchor_wh) / anchor_wh
    scale = (box_wh / anchor_wh).log()
    (dx, dy), (dw, dh) = shift.unbind(dim=-1), scale.unbind(dim=-1)
    wx, wy, ww, wh = weights
    return torch.stack((dx * wx, dy * wy, dw * ww, dh * wh), dim=-1)
