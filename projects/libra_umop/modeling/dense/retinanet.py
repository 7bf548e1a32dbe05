"""RetinaNet with what Libra R-CNN and UMOP change: box loss, classification loss, normalisers.

Letters: N images, R anchors of all L levels, K classes.
"""

from typing import Dict, List, Optional

import torch
from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.modeling.meta_arch import RetinaNet
from detectron2.structures import Boxes
from detectron2.utils import comm
from torch import Tensor

from ...utils.ranks import sum_over_ranks
from .box_loss import DenseBoxLoss, clip_to_image
from .classification_losses import HardNegativeLoss, LevelFocalLoss, log_levels, umop_arguments
from .normalizers import LossNormalizer, LossSum
from .scalars import DeferredScalars

__all__ = ["LibraRetinaNet", "UMOPRetinaNet"]

CLS_LOSS_TYPES = ("focal", "ohem")


@META_ARCH_REGISTRY.register()
class LibraRetinaNet(RetinaNet):
    """RetinaNet with balanced L1 and a weight for the box loss; Libra RetinaNet over a BFP.

    Libra R-CNN (https://arxiv.org/abs/1904.02701), table 2. With smooth L1 of weight 1 its losses
    and gradients are Detectron2's; the normaliser counts the positives of all ranks and is saved.
    """

    returns_sums = False  # see LossSum

    @configurable
    def __init__(
        self,
        *,
        cls_loss: Optional[LevelFocalLoss] = None,
        box_loss: Optional[DenseBoxLoss] = None,
        box_reg_loss_weight: float = 1.0,
        clip_before_nms: bool = True,
        loss_normalizer: str = "moving_average",
        **kwargs,
    ):
        """
        Args:
            cls_loss: the classification loss; by default focal loss with RetinaNet's arguments.
            box_loss: the box loss; by default that of RetinaNet's arguments.
            box_reg_loss_weight: factor of the box loss, >= 0.
            clip_before_nms: clip boxes to the image and drop empty ones before non-maximum
                suppression, as the reference implementation does, and not after.
            loss_normalizer: see :class:`LossNormalizer`.
            kwargs: those of :class:`RetinaNet`.
        """
        super().__init__(**kwargs)
        if not box_reg_loss_weight >= 0:
            raise ValueError(
                f"MODEL.RETINANET.BBOX_REG_LOSS_WEIGHT must be >= 0, got {box_reg_loss_weight}"
            )
        self.cls_loss = cls_loss or LevelFocalLoss(
            gamma=self.focal_loss_gamma, alpha=self.focal_loss_alpha
        )
        self.box_loss = box_loss or DenseBoxLoss(
            loss_type=self.box_reg_loss_type, beta=self.smooth_l1_beta
        )
        self.box_reg_loss_weight = box_reg_loss_weight
        self.clip_before_nms = clip_before_nms
        self.loss_normalizer = LossNormalizer(initial=100, loss_normalizer=loss_normalizer)
        self._scalars = DeferredScalars()

    @classmethod
    def from_config(cls, cfg):
        ret = super().from_config(cfg)
        ret["cls_loss"] = cls.build_cls_loss(cfg)
        ret["box_loss"] = DenseBoxLoss(
            loss_type=cfg.MODEL.RETINANET.BBOX_REG_LOSS_TYPE,
            beta=cfg.MODEL.RETINANET.SMOOTH_L1_LOSS_BETA,
            alpha=cfg.MODEL.BALANCED_L1.ALPHA,
            gamma=cfg.MODEL.BALANCED_L1.GAMMA,
            formula=cfg.MODEL.BALANCED_L1.FORMULA,
        )
        ret["box_reg_loss_weight"] = cfg.MODEL.RETINANET.BBOX_REG_LOSS_WEIGHT
        ret["clip_before_nms"] = cfg.MODEL.RETINANET.CLIP_BEFORE_NMS
        ret["loss_normalizer"] = cfg.MODEL.RETINANET.LOSS_NORMALIZER
        return ret

    @classmethod
    def build_cls_loss(cls, cfg) -> LevelFocalLoss:
        """The loss that ``MODEL.RETINANET.CLS_LOSS_TYPE`` names."""
        loss_type = cfg.MODEL.RETINANET.CLS_LOSS_TYPE
        if loss_type not in CLS_LOSS_TYPES:
            raise ValueError(
                f"MODEL.RETINANET.CLS_LOSS_TYPE must be one of {CLS_LOSS_TYPES}, got {loss_type!r}"
            )
        if loss_type == "ohem":
            return HardNegativeLoss(neg_pos_ratio=cfg.MODEL.RETINANET.OHEM_NEG_POS_RATIO)
        return LevelFocalLoss(
            gamma=cfg.MODEL.RETINANET.FOCAL_LOSS_GAMMA, alpha=cfg.MODEL.RETINANET.FOCAL_LOSS_ALPHA
        )

    def losses(
        self,
        anchors: List[Boxes],
        pred_logits: List[Tensor],
        gt_labels: List[Tensor],
        pred_anchor_deltas: List[Tensor],
        gt_boxes: List[Tensor],
    ) -> Dict[str, Tensor]:
        """Same interface as :meth:`RetinaNet.losses`."""
        gt_labels = torch.stack(gt_labels)  # (N, R)
        is_pos = (gt_labels >= 0) & (gt_labels != self.num_classes)
        loss_box_reg = self.box_reg_loss_weight * self.box_loss(
            Boxes.cat(anchors).tensor,
            self.box2box_transform,
            torch.cat(pred_anchor_deltas, dim=1),
            torch.stack(gt_boxes),
            is_pos.float(),
        )
        if self.returns_sums:
            loss_cls = self.cls_loss.plain_sum(pred_logits, gt_labels)
            losses = {"loss_cls": loss_cls, "loss_box_reg": loss_box_reg}
            return {name: LossSum(loss, is_pos.sum()) for name, loss in losses.items()}

        num_ranks = comm.get_world_size()
        sums = self.cls_loss.sums(pred_logits, gt_labels)  # (L, 3)
        totals = sum_over_ranks(sums)
        normalizer = self.loss_normalizer.update(totals, num_ranks)
        cls = self.cls_loss(pred_logits, gt_labels, totals, normalizer, num_ranks)
        log_levels(self._scalars, self.head_in_features, cls, sums[:, 1], len(gt_labels))
        return {"loss_cls": cls.loss, "loss_box_reg": loss_box_reg / normalizer}

    def _decode_multi_level_predictions(self, *args, **kwargs):
        """Same interface as the parent's."""
        pred = super()._decode_multi_level_predictions(*args, **kwargs)
        return clip_to_image(pred) if self.clip_before_nms else pred


@META_ARCH_REGISTRY.register()
class UMOPRetinaNet(LibraRetinaNet):
    """RetinaNet with the progressive focal loss and level-wise resampling of ``MODEL.UMOP``."""

    @classmethod
    def build_cls_loss(cls, cfg) -> LevelFocalLoss:
        """UMOP's loss; ``MODEL.RETINANET.CLS_LOSS_TYPE`` cannot be another."""
        loss_type = cfg.MODEL.RETINANET.CLS_LOSS_TYPE
        if loss_type != "focal":
            raise ValueError(
                f"MODEL.RETINANET.CLS_LOSS_TYPE is {loss_type!r}, which {cls.__name__} does not"
                " have; LibraRetinaNet does"
            )
        return LevelFocalLoss(
            gamma=cfg.MODEL.RETINANET.FOCAL_LOSS_GAMMA,
            alpha=cfg.MODEL.RETINANET.FOCAL_LOSS_ALPHA,
            **umop_arguments(cfg),
        )
