"""What GFL and VFNet share: boxes as distances to their edges, scores as the boxes' quality.

Letters: N images, R_l anchors of level l of L, K classes.
"""

from typing import Any

from detectron2.modeling.box_regression import Box2BoxTransformLinear
from torch import Tensor

from .atss import ATSS
from .losses.classification import ClassificationLoss
from .losses.levels import LevelWiseLoss

__all__ = ["EdgeDistanceATSS"]


class EdgeDistanceATSS(ATSS):
    """ATSS whose head predicts the distances of a box's four edges from the location, in strides.

    It has the keys of ATSS, and no centerness: the class score is the quality of the box. What
    decodes the distances, and what the L1 losses compare, are distances in sizes of the anchor.

    Args:
        cls_loss: a loss that ``scores_quality``.
        kwargs: those of :class:`ATSS`.
    """

    own_cls_loss_class: type[LevelWiseLoss]  # where an argument does not say

    def __init__(self, *, cls_loss: ClassificationLoss | None = None, **kwargs):
        super().__init__(
            cls_loss=cls_loss or self.own_cls_loss_class(),
            box2box_transform=Box2BoxTransformLinear(normalize_by_size=True),
            **kwargs,
        )

    @classmethod
    def from_config(cls, cfg) -> dict[str, Any]:
        """Same interface as the parent's, whose transform has no distances."""
        ret = super().from_config(cfg)
        del ret["box2box_transform"]
        return ret

    @classmethod
    def build_cls_loss(cls, cfg) -> ClassificationLoss:
        """Same interface as the parent's; of a loss whose score is not the quality, ValueError."""
        loss = super().build_cls_loss(cfg)
        if not loss.scores_quality:
            raise ValueError(
                f"MODEL.ATSS.CLS_LOSS_TYPE is {cfg.MODEL.ATSS.CLS_LOSS_TYPE!r}, should be"
                f" quality_focal, varifocal or another whose score is the box's quality for"
                f" {cls.__name__}"
            )
        return loss

    def stride_in_anchors(self) -> list[Tensor]:
        """Of each level, how many sizes of its anchor a stride is (0-dim): the unit of deltas."""
        generator = self.anchor_generator
        return [
            stride / (cell[0, 2] - cell[0, 0])
            for stride, cell in zip(generator.strides, generator.cell_anchors, strict=True)
        ]
