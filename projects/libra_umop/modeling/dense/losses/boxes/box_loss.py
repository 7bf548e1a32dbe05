"""Boxes of dense detectors: their loss, and how they are decoded and clipped.

Letters: N images, R anchors of all levels. Nothing in the loss waits for the device.
"""

from typing import Any

import torch
from detectron2.layers import nonzero_tuple
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.structures import Boxes, Instances
from fvcore.nn import smooth_l1_loss
from torch import Tensor

from .....functional.boxes.balanced_l1_loss import balanced_l1_loss
from .....functional.boxes.dense_box_loss import IOU_LOSSES, box_deltas

__all__ = ["BOX_LOSS_TYPES", "DenseBoxLoss", "clip_to_image", "decode_boxes", "target_deltas"]

BOX_LOSS_TYPES = ("smooth_l1", "balanced_l1", *IOU_LOSSES)


class DenseBoxLoss:
    """Box regression loss, summed over weighted anchors of any level.

    Every anchor is computed and the weights choose, so that neither an index nor the number of
    positives is needed on the host.

    Args:
        loss_type: one of ``BOX_LOSS_TYPES``; the IoU losses compare decoded boxes, not clipped.
        beta: transition point of "smooth_l1" and "balanced_l1".
        alpha, gamma, formula: of "balanced_l1", see :func:`balanced_l1_loss`.

    Raises:
        ValueError: for an unknown type, or "balanced_l1" with a beta that is not positive.
    """

    def __init__(
        self,
        *,
        loss_type: str,
        beta: float = 0.0,
        alpha: float = 0.5,
        gamma: float = 1.5,
        formula: str = "exact",
    ):
        if loss_type not in BOX_LOSS_TYPES:
            raise ValueError(f"box loss type is {loss_type!r}, should be one of {BOX_LOSS_TYPES}")
        if loss_type == "balanced_l1" and not beta > 0:
            raise ValueError(f"SMOOTH_L1_LOSS_BETA is {beta}, should be > 0 for balanced_l1")
        self.loss_type = loss_type
        self.beta = beta
        self.balanced: dict[str, Any] = {"alpha": alpha, "gamma": gamma, "formula": formula}

    def __call__(
        self, anchors: Tensor, transform, pred_deltas: Tensor, gt_boxes: Tensor, weights: Tensor
    ) -> Tensor:
        """The loss, weighted and summed.

        Args:
            anchors: (R, 4) XYXY pixels.
            transform: a Box2BoxTransform or Box2BoxTransformLinear that decodes the predictions.
            pred_deltas: (N, R, 4).
            gt_boxes: (N, R, 4) XYXY pixels, of any value where the weight is 0.
            weights: (N, R), >= 0; 0 for anchors without a box.

        Returns:
            0-dim fp32, with a live gradient even if all weights are 0.
        """
        anchors = anchors.expand_as(pred_deltas)
        chosen = (weights > 0)[..., None]  # (N, R, 1)
        # An anchor without a box predicts itself and gets itself as target, whatever was predicted:
        # an inf that is only left out of the sum would still make its gradient NaN.
        pred_deltas = torch.where(chosen, pred_deltas.float(), 0.0)
        targets = torch.where(chosen, gt_boxes, anchors)
        if self.loss_type in IOU_LOSSES:
            pred_boxes = decode_boxes(transform, pred_deltas, anchors)
            loss = IOU_LOSSES[self.loss_type](pred_boxes, targets)  # (N, R)
        else:
            loss = self._delta_loss(transform, pred_deltas, anchors, targets)
        return (loss * weights).sum()

    def _delta_loss(self, transform, pred_deltas, anchors, targets) -> Tensor:
        """(N, R): loss between deltas, summed over the four."""
        deltas = target_deltas(transform, anchors, targets)
        if self.loss_type == "smooth_l1":
            return smooth_l1_loss(pred_deltas, deltas, beta=self.beta).sum(dim=-1)
        return balanced_l1_loss(pred_deltas, deltas, beta=self.beta, **self.balanced).sum(dim=-1)


@torch.no_grad()
def target_deltas(transform, anchors: Tensor, boxes: Tensor) -> Tensor:
    """``transform.get_deltas`` for (..., 4) anchors and boxes, without waiting for the device."""
    if isinstance(transform, Box2BoxTransform):
        return box_deltas(anchors, boxes, weights=transform.weights)
    return transform.get_deltas(anchors.reshape(-1, 4), boxes.reshape(-1, 4)).view(boxes.shape)


def decode_boxes(transform, deltas: Tensor, anchors: Tensor) -> Tensor:
    """``transform.apply_deltas`` for (..., 4) deltas and anchors."""
    return transform.apply_deltas(deltas.reshape(-1, 4), anchors.reshape(-1, 4)).view(deltas.shape)


def clip_to_image(instances: Instances) -> Instances:
    """Detections with boxes clipped to the image, without those that lie outside.

    What the reference implementations do before non-maximum suppression; Detectron2 clips after.
    """
    boxes = Boxes(instances.pred_boxes.tensor)
    boxes.clip(instances.image_size)
    instances.pred_boxes = boxes
    return instances[nonzero_tuple(boxes.nonempty())[0]]  # one wait: a mask has one for each field
