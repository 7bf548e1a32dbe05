"""Detectron2's FCOS, reachable from a yacs config, and UMOP for it.

Letters: N images, R anchor points of all L levels, K classes.
"""

from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.modeling.meta_arch import RetinaNet, fcos
from torch import Tensor, nn

from ..anchors import TorchvisionAnchorGenerator
from .centerness_detector import CenternessDetector, centerness_targets
from .detector import BoxPart
from .losses.boxes.centerness import centerness_loss_sum
from .losses.normalizers import LossNormalizer
from .losses.predictions import LabelledPredictions

__all__ = ["FCOS", "UMOPFCOS"]


@META_ARCH_REGISTRY.register()
class FCOS(CenternessDetector):
    """Detectron2's FCOS with keys, a weight for the box loss, and a normaliser over all ranks.

    In one process its losses, gradients and detections are the parent's.

    Args:
        loss_normalizer: see :class:`LossNormalizer`.
        anchor_generator: of one anchor a location, a square of the stride; None for Detectron2's,
            which centres it on the location's middle.
        kwargs: those of :class:`CenternessDetector`.
    """

    keys = "FCOS"
    cls_loss_name = "loss_fcos_cls"

    @configurable
    def __init__(
        self,
        *,
        loss_normalizer: str = "moving_average",
        anchor_generator: nn.Module | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if anchor_generator is not None:
            self.anchor_generator = anchor_generator
        self.loss_normalizer = LossNormalizer(initial=300, loss_normalizer=loss_normalizer)

    @classmethod
    def from_config(cls, cfg):
        """Same interface as the parent's; reads this project's keys, too."""
        ret = super().from_config(cfg)
        ret["center_sampling_radius"] = cfg.MODEL.FCOS.CENTER_SAMPLING_RADIUS
        ret["loss_normalizer"] = cfg.MODEL.FCOS.LOSS_NORMALIZER
        if TorchvisionAnchorGenerator.__name__ == cfg.MODEL.ANCHOR_GENERATOR.NAME:
            shapes = ret["backbone"].output_shape()
            strides = [shapes[feature].stride for feature in ret["head_in_features"]]
            ret["anchor_generator"] = TorchvisionAnchorGenerator(
                sizes=[[s] for s in strides], aspect_ratios=[[1.0]], strides=strides, offset=0.0
            )
        return ret

    def box_losses(
        self, predictions: LabelledPredictions, *others: list[Tensor]
    ) -> dict[str, BoxPart]:
        """Same interface as :meth:`DenseLosses.box_losses`: every positive alike, or by quality."""
        if not self.has_centerness:
            return {"loss_fcos_loc": self.quality_weighted(predictions)}
        (pred_centerness,) = others
        targets, is_pos = centerness_targets(predictions), predictions.is_pos
        return {
            "loss_fcos_loc": BoxPart(self.box_loss_sum(predictions, is_pos.float())),
            "loss_fcos_ctr": BoxPart(centerness_loss_sum(pred_centerness, targets, is_pos)),
        }

    def forward_inference(self, images, features, predictions):
        """Same interface as the parent's; without centerness the score is the class score's."""
        parent = fcos.FCOS if self.has_centerness else RetinaNet
        return parent.forward_inference(self, images, features, predictions)


@META_ARCH_REGISTRY.register()
class UMOPFCOS(FCOS):
    """FCOS with the progressive focal loss and level-wise resampling of ``MODEL.UMOP``."""

    own_cls_loss = "progressive_focal"
    has_other_cls_losses = False
