"""RetinaNet with what Libra R-CNN and UMOP change: box loss, classification loss, normalisers.

Letters: N images, R anchors of all L levels, K classes.
"""

from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.modeling.meta_arch import RetinaNet

from .detector import BoxPart, DenseLosses
from .losses.boxes.box_loss import DenseBoxLoss, clip_to_image
from .losses.normalizers import LossNormalizer
from .losses.predictions import LabelledPredictions

__all__ = ["LibraRetinaNet", "UMOPRetinaNet"]


@META_ARCH_REGISTRY.register()
class LibraRetinaNet(DenseLosses, RetinaNet):
    """RetinaNet with balanced L1 and a weight for the box loss; Libra RetinaNet over a BFP.

    Libra R-CNN (https://arxiv.org/abs/1904.02701), table 2. With smooth L1 of weight 1 its losses
    and gradients are Detectron2's; the normaliser counts the positives of all ranks and is saved.

    Args:
        box_loss: the box loss; by default that of RetinaNet's arguments.
        clip_before_nms: clip boxes to the image and drop empty ones before non-maximum
            suppression, as the reference implementation does, and not after.
        loss_normalizer: see :class:`LossNormalizer`.
        kwargs: those of :class:`DenseLosses` and :class:`RetinaNet`.
    """

    keys = "RETINANET"

    @configurable
    def __init__(
        self,
        *,
        box_loss: DenseBoxLoss | None = None,
        clip_before_nms: bool = True,
        loss_normalizer: str = "moving_average",
        **kwargs,
    ):
        super().__init__(box_loss=box_loss, **kwargs)
        if box_loss is None:
            self.box_loss = DenseBoxLoss(loss_type=self.box_reg_loss_type, beta=self.smooth_l1_beta)
        self.clip_before_nms = clip_before_nms
        self.loss_normalizer = LossNormalizer(initial=100, loss_normalizer=loss_normalizer)

    @classmethod
    def from_config(cls, cfg):
        """Same interface as the parent's; reads this project's keys, too."""
        ret = super().from_config(cfg)
        ret["cls_loss"] = cls.build_cls_loss(cfg)
        ret["box_loss"] = cls.build_box_loss(cfg)
        ret["box_reg_loss_weight"] = cfg.MODEL.RETINANET.BBOX_REG_LOSS_WEIGHT
        ret["clip_before_nms"] = cfg.MODEL.RETINANET.CLIP_BEFORE_NMS
        ret["loss_normalizer"] = cfg.MODEL.RETINANET.LOSS_NORMALIZER
        return ret

    def box_losses(self, predictions: LabelledPredictions) -> dict[str, BoxPart]:
        """Same interface as :meth:`DenseLosses.box_losses`: every positive alike, or by quality."""
        if self.cls_loss.scores_quality:
            return {"loss_box_reg": self.quality_weighted(predictions)}
        loss_box_reg = self.box_loss_sum(predictions, predictions.is_pos.float())
        return {"loss_box_reg": BoxPart(loss_box_reg)}

    def _decode_multi_level_predictions(self, *args, **kwargs):
        """Same interface as the parent's; clips before non-maximum suppression if asked to."""
        pred = super()._decode_multi_level_predictions(*args, **kwargs)
        return clip_to_image(pred) if self.clip_before_nms else pred


@META_ARCH_REGISTRY.register()
class UMOPRetinaNet(LibraRetinaNet):
    """RetinaNet with the progressive focal loss and level-wise resampling of ``MODEL.UMOP``."""

    own_cls_loss = "progressive_focal"
    has_other_cls_losses = False
