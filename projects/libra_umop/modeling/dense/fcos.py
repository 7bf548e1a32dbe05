"""Detectron2's FCOS, reachable from a yacs config, and UMOP for it.

Letters: N images, R anchor points of all L levels, K classes.
"""

import torch
from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone
from detectron2.modeling.meta_arch import fcos
from detectron2.structures import Boxes
from torch import Tensor

from ...functional.atss_matching import centerness_target
from .detector import BoxPart, DenseLosses
from .losses.box_loss import DenseBoxLoss
from .losses.centerness import centerness_loss_sum
from .losses.classification import ClassificationLoss
from .losses.focal import LevelFocalLoss
from .losses.normalizers import LossNormalizer
from .scalars import DeferredScalars

__all__ = ["FCOS", "UMOPFCOS"]


@META_ARCH_REGISTRY.register()
class FCOS(DenseLosses, fcos.FCOS):
    """Detectron2's FCOS with keys, a weight for the box loss, and a normaliser over all ranks.

    In one process its losses, gradients and detections are the parent's.
    """

    keys = "FCOS"

    @configurable
    def __init__(
        self,
        *,
        cls_loss: ClassificationLoss | None = None,
        box_reg_loss_weight: float = 1.0,
        loss_normalizer: str = "moving_average",
        input_format: str = "BGR",
        **kwargs,
    ):
        """Args:
        cls_loss: the classification loss; by default focal loss with the parent's arguments.
        box_reg_loss_weight: factor of the box loss, >= 0.
        loss_normalizer: see :class:`LossNormalizer`.
        kwargs: those of :class:`detectron2.modeling.meta_arch.fcos.FCOS`.
        """
        super().__init__(**kwargs)
        if not box_reg_loss_weight >= 0:
            raise ValueError(
                f"MODEL.FCOS.BBOX_REG_LOSS_WEIGHT must be >= 0, got {box_reg_loss_weight}"
            )
        self.cls_loss = cls_loss or LevelFocalLoss(
            gamma=self.focal_loss_gamma, alpha=self.focal_loss_alpha
        )
        self.box_loss = DenseBoxLoss(loss_type="giou")
        self.box_reg_loss_weight = box_reg_loss_weight
        self.input_format = input_format
        self.loss_normalizer = LossNormalizer(initial=300, loss_normalizer=loss_normalizer)
        self._scalars = DeferredScalars()

    @classmethod
    def from_config(cls, cfg):
        backbone = build_backbone(cfg)
        node = cfg.MODEL.FCOS
        feature_shapes = [backbone.output_shape()[f] for f in node.IN_FEATURES]
        head = fcos.FCOSHead(
            input_shape=feature_shapes,
            num_classes=node.NUM_CLASSES,
            conv_dims=[feature_shapes[0].channels] * node.NUM_CONVS,
            norm=node.NORM,
            prior_prob=node.PRIOR_PROB,
        )
        return {
            "backbone": backbone,
            "head": head,
            "head_in_features": node.IN_FEATURES,
            "num_classes": node.NUM_CLASSES,
            "center_sampling_radius": node.CENTER_SAMPLING_RADIUS,
            "cls_loss": cls.build_cls_loss(cfg),
            "box_reg_loss_weight": node.BBOX_REG_LOSS_WEIGHT,
            "loss_normalizer": node.LOSS_NORMALIZER,
            "test_score_thresh": node.SCORE_THRESH_TEST,
            "test_topk_candidates": node.TOPK_CANDIDATES_TEST,
            "test_nms_thresh": node.NMS_THRESH_TEST,
            "max_detections_per_image": cfg.TEST.DETECTIONS_PER_IMAGE,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "input_format": cfg.INPUT.FORMAT,
        }

    def losses(
        self,
        anchors: list[Boxes],
        pred_logits: list[Tensor],
        gt_labels: list[Tensor],
        pred_anchor_deltas: list[Tensor],
        gt_boxes: list[Tensor],
        pred_centerness: list[Tensor],
    ) -> dict[str, Tensor]:
        """Same interface as the parent's."""
        predictions = self.label_predictions(
            anchors, pred_logits, gt_labels, pred_anchor_deltas, gt_boxes
        )
        is_pos = predictions.is_pos
        loss_loc = self.box_loss_sum(predictions, is_pos.float())
        targets = centerness_target(predictions.anchors, predictions.gt_boxes)
        targets = torch.where(is_pos, targets, 0.0)  # (N, R)
        loss_ctr = centerness_loss_sum(pred_centerness, targets, is_pos)
        parts = {"loss_fcos_loc": BoxPart(loss_loc), "loss_fcos_ctr": BoxPart(loss_ctr)}
        return self.finish_losses(predictions, "loss_fcos_cls", parts)


@META_ARCH_REGISTRY.register()
class UMOPFCOS(FCOS):
    """FCOS with the progressive focal loss and level-wise resampling of ``MODEL.UMOP``."""

    own_cls_loss = "progressive_focal"
