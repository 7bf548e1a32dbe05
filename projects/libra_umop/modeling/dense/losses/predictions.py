"""What a classification loss sees of a batch.

Letters: N images, R_l anchors of level l of L, R of all levels, K classes. Labels: -1 ignore,
[0, K) foreground, K background.
"""

import copy
from typing import Any

import torch
from torch import Tensor

from ....functional.boxes.dense_box_loss import box_iou
from .boxes.box_loss import decode_boxes

__all__ = ["LabelledPredictions"]


class LabelledPredictions:
    """What a classification loss sees of a batch.

    Args:
        logits: L of (N, R_l, K).
        labels: (N, R) int64.
        anchors: (R, 4) XYXY pixels.
        deltas: (N, R, 4), predicted.
        gt_boxes: (N, R, 4) XYXY pixels, matched; of any value where there is no positive.
        transform: the Box2BoxTransform, or another, that decodes ``deltas``.
    """

    def __init__(
        self,
        *,
        logits: list[Tensor],
        labels: Tensor,
        anchors: Tensor,
        deltas: Tensor,
        gt_boxes: Tensor,
        transform: Any,
    ):
        self.logits, self.labels = logits, labels
        self.anchors, self.deltas, self.gt_boxes = anchors, deltas, gt_boxes
        self.transform = transform
        self.is_pos = (labels >= 0) & (labels != logits[0].shape[2])  # (N, R)
        self._quality: Tensor | None = None

    def with_deltas(self, deltas: Tensor) -> "LabelledPredictions":
        """The same anchors with other predicted (N, R, 4) deltas."""
        other = copy.copy(self)
        other.deltas, other._quality = deltas, None
        return other

    def levels(self) -> list[tuple[Tensor, Tensor]]:
        """Pairs of (N R_l, K) logits and (N R_l,) labels, level by level."""
        return list(
            zip([x.flatten(0, 1) for x in self.logits], self.split(self.labels), strict=True)
        )

    def split(self, values: Tensor) -> list[Tensor]:
        """L of (N R_l,): what belongs to the levels' anchors, of (N, R) of all levels."""
        return [x.flatten() for x in values.split([x.shape[1] for x in self.logits], dim=1)]

    def num_positives(self) -> Tensor:
        """(L,) fp32."""
        return torch.stack([x.sum() for x in self.split(self.is_pos)]).float()

    @torch.no_grad()
    def quality(self) -> Tensor:
        """(N, R) fp32 in [0, 1]: IoU of a positive's predicted with its matched box, else 0.

        A target, without a gradient, and computed for the losses that ask, once.
        """
        if self._quality is None:
            deltas = torch.where(self.is_pos[..., None], self.deltas.float(), 0.0)
            boxes = decode_boxes(self.transform, deltas, self.anchors.expand_as(deltas))
            self._quality = torch.where(self.is_pos, box_iou(boxes, self.gt_boxes), 0.0)
        return self._quality
