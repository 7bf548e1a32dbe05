"""What FCOS and ATSS share: beside class and box they predict centerness, if the loss asks for it.

Letters: N images, R_l anchors of level l of L, R of all levels, K classes.
"""

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.modeling import build_backbone
from detectron2.modeling.meta_arch import fcos, retinanet
from torch import Tensor, nn

from ...functional.atss_matching import centerness_target
from .detector import DenseLosses
from .losses.predictions import LabelledPredictions

__all__ = ["CenternessDetector", "PointHead", "centerness_targets", "init_conv"]


class PointHead(fcos.FCOSHead):
    """FCOS's head, with centerness or without.

    Args:
        has_centerness: whether centerness is predicted.
        kwargs: those of :class:`FCOSHead`.

    Args:
        input_format: of the images that come in, "BGR" or "RGB".
        kwargs: those of :class:`DenseLosses` and
            :class:`detectron2.modeling.meta_arch.fcos.FCOS`.

    Raises:
        ValueError: head and classification loss do not agree on whether there is centerness.
    """

    def __init__(self, *, has_centerness: bool = True, **kwargs):
        super().__init__(**kwargs)
        self.has_centerness = has_centerness
        if not has_centerness:
            del self.ctrness

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], ...]:
        """Same interface as :meth:`FCOSHead.forward`; without centerness, as RetinaNet's."""
        parent = fcos.FCOSHead if self.has_centerness else retinanet.RetinaNetHead
        return parent.forward(self, features)


def init_conv(conv: nn.Module) -> None:
    """As Detectron2 initialises the convolutions of RetinaNet's and FCOS's heads."""
    nn.init.normal_(conv.get_parameter("weight"), std=0.01)
    if conv.bias is not None:
        nn.init.zeros_(conv.get_parameter("bias"))


class CenternessDetector(DenseLosses, fcos.FCOS):
    """Detectron2's FCOS with keys, and a weight for the box loss.

    Where the class score is the quality of the box (``cls_loss.scores_quality``) there is no
    centerness: the head has none, no loss, and no part in the score.
    """

    head_class: type[PointHead] = PointHead

    def __init__(self, *, input_format: str = "BGR", **kwargs):
        super().__init__(**kwargs)
        self.input_format = input_format
        has_centerness = getattr(self.head, "has_centerness", True)  # Detectron2's has
        if has_centerness == self.cls_loss.scores_quality:
            raise ValueError(
                f"the head's has_centerness is {has_centerness}, should be {not has_centerness}:"
                f" {type(self.cls_loss).__name__} asks for "
                + ("none" if has_centerness else "centerness")
            )
        self.has_centerness = has_centerness

    @classmethod
    def from_config(cls, cfg) -> dict[str, Any]:
        """Arguments by name, from the keys that the detectors have in common."""
        backbone = build_backbone(cfg)
        node = cfg.MODEL[cls.keys]
        feature_shapes = [backbone.output_shape()[f] for f in node.IN_FEATURES]
        cls_loss = cls.build_cls_loss(cfg)
        head = cls.head_class(
            input_shape=feature_shapes,
            num_classes=node.NUM_CLASSES,
            conv_dims=[feature_shapes[0].channels] * node.NUM_CONVS,
            norm=node.NORM,
            prior_prob=node.PRIOR_PROB,
            has_centerness=not cls_loss.scores_quality,
            **cls.head_arguments(cfg),
        )
        return {
            "backbone": backbone,
            "head": head,
            "head_in_features": node.IN_FEATURES,
            "num_classes": node.NUM_CLASSES,
            "cls_loss": cls_loss,
            "box_loss": cls.build_box_loss(cfg),
            "box_reg_loss_weight": node.BBOX_REG_LOSS_WEIGHT,
            "test_score_thresh": node.SCORE_THRESH_TEST,
            "test_topk_candidates": node.TOPK_CANDIDATES_TEST,
            "test_nms_thresh": node.NMS_THRESH_TEST,
            "max_detections_per_image": cfg.TEST.DETECTIONS_PER_IMAGE,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "input_format": cfg.INPUT.FORMAT,
        }

    @classmethod
    def head_arguments(cls, cfg) -> dict[str, Any]:
        """What else ``head_class`` has to be given."""
        return {}

    def arrange(
        self, predictions: Sequence[list[Tensor]]
    ) -> tuple[list[Tensor], list[Tensor], list[list[Tensor]]]:
        """What the head gives, anchor by anchor.

        Returns:
            logits: L of (N, R_l, K).
            deltas: L of (N, R_l, 4), for ``box2box_transform``.
            others: what else there is, first the centerness, L of (N, R_l, 1), if there is any.
        """
        dims = [self.num_classes, 4] + [1] * self.has_centerness
        logits, deltas, *others = self._transpose_dense_predictions(predictions, dims)
        return logits, deltas, others

    def forward_training(self, images, features, predictions, gt_instances):
        """Same interface as :meth:`RetinaNet.forward_training`."""
        logits, deltas, others = self.arrange(predictions)
        anchors = self.anchor_generator(features)
        gt_labels, gt_boxes = self.label_anchors(anchors, gt_instances)
        return self.losses(anchors, logits, gt_labels, deltas, gt_boxes, *others)


def centerness_targets(predictions: LabelledPredictions) -> Tensor:
    """(N, R) in [0, 1]: the centerness of positives, 0 for all others."""
    targets = centerness_target(predictions.anchors, predictions.gt_boxes)
    return torch.where(predictions.is_pos, targets, 0.0)
