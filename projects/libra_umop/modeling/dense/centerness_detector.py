"""What FCOS and ATSS share: beside class and box they predict centerness.

Letters: N images, R anchors of all levels.
"""

from typing import Any

import torch
from detectron2.modeling import build_backbone
from detectron2.modeling.meta_arch import fcos
from torch import Tensor

from ...functional.atss_matching import centerness_target
from .detector import DenseLosses
from .losses.predictions import LabelledPredictions

__all__ = ["CenternessDetector", "centerness_targets"]


class CenternessDetector(DenseLosses, fcos.FCOS):
    """Detectron2's FCOS with keys, and a weight for the box loss.

    Args:
        input_format: of the images that come in, "BGR" or "RGB".
        kwargs: those of :class:`DenseLosses` and :class:`detectron2.modeling.meta_arch.fcos.FCOS`.
    """

    head_class = fcos.FCOSHead

    def __init__(self, *, input_format: str = "BGR", **kwargs):
        super().__init__(**kwargs)
        self.input_format = input_format

    @classmethod
    def from_config(cls, cfg) -> dict[str, Any]:
        """Arguments by name, from the keys that the detectors have in common."""
        backbone = build_backbone(cfg)
        node = cfg.MODEL[cls.keys]
        feature_shapes = [backbone.output_shape()[f] for f in node.IN_FEATURES]
        head = cls.head_class(
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
            "cls_loss": cls.build_cls_loss(cfg),
            "box_reg_loss_weight": node.BBOX_REG_LOSS_WEIGHT,
            "test_score_thresh": node.SCORE_THRESH_TEST,
            "test_topk_candidates": node.TOPK_CANDIDATES_TEST,
            "test_nms_thresh": node.NMS_THRESH_TEST,
            "max_detections_per_image": cfg.TEST.DETECTIONS_PER_IMAGE,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "input_format": cfg.INPUT.FORMAT,
        }


def centerness_targets(predictions: LabelledPredictions) -> Tensor:
    """(N, R) in [0, 1]: the centerness of positives, 0 for all others."""
    targets = centerness_target(predictions.anchors, predictions.gt_boxes)
    return torch.where(predictions.is_pos, targets, 0.0)
