"""Classification losses whose score is the quality of the box, and with what UMOP changes.

The score of a positive's own class learns the IoU of its predicted with its matched box, so that no
centerness is needed. PFL's gamma takes the place of QFL's beta, and
of the exponent of VFL's negatives. Letters: N images, R anchors, K classes.
"""

from torch import Tensor

from ....functional.quality_losses import quality_focal_loss_sum, varifocal_loss_sum
from ....key import Key
from ....ranges import NOT_NEGATIVE
from .classification import declare_numbers, register_cls_loss
from .levels import LevelWiseLoss, umop_arguments

__all__ = ["LevelQualityFocalLoss", "LevelVarifocalLoss"]


class LevelQualityFocalLoss(LevelWiseLoss):
    """Quality focal loss (Li et al., https://arxiv.org/abs/2006.04388, equation 4)."""

    scores_quality = True

    def level_sum(self, logits, labels, quality, gamma) -> Tensor:
        """Same interface as the parent's."""
        return quality_focal_loss_sum(logits, labels, quality, beta=gamma)


class LevelVarifocalLoss(LevelWiseLoss):
    """Varifocal loss (Zhang et al., https://arxiv.org/abs/2008.13367, equation 2).

    Args:
        alpha: weight of the negatives, >= 0.
        kwargs: those of :class:`LevelWiseLoss`.

    Raises:
        ValueError: for a number out of its range or an unknown name.
    """

    scores_quality = True

    def __init__(self, *, alpha: float = 0.75, **kwargs):
        super().__init__(**kwargs)
        if not alpha >= 0:
            raise ValueError(f"VARIFOCAL_ALPHA is {alpha}, should be >= 0")
        self.alpha = alpha

    def level_sum(self, logits, labels, quality, gamma) -> Tensor:
        """Same interface as the parent's."""
        return varifocal_loss_sum(logits, labels, quality, alpha=self.alpha, gamma=gamma)


declare_numbers(
    VARIFOCAL_ALPHA=Key(
        0.75, NOT_NEGATIVE, 'Weight of the negatives under "varifocal" and "progressive_varifocal".'
    )
)


@register_cls_loss("quality_focal")
def build_quality_focal_loss(cfg, keys) -> LevelQualityFocalLoss:
    """GFL's."""
    return LevelQualityFocalLoss(gamma=keys.FOCAL_LOSS_GAMMA)


@register_cls_loss("progressive_quality_focal")
def build_progressive_quality_focal_loss(cfg, keys) -> LevelQualityFocalLoss:
    """GFL's with what of ``MODEL.UMOP`` is on."""
    return LevelQualityFocalLoss(gamma=keys.FOCAL_LOSS_GAMMA, **umop_arguments(cfg))


@register_cls_loss("varifocal")
def build_varifocal_loss(cfg, keys) -> LevelVarifocalLoss:
    """VFNet's."""
    return LevelVarifocalLoss(gamma=keys.FOCAL_LOSS_GAMMA, alpha=keys.VARIFOCAL_ALPHA)


@register_cls_loss("progressive_varifocal")
def build_progressive_varifocal_loss(cfg, keys) -> LevelVarifocalLoss:
    """VFNet's with what of ``MODEL.UMOP`` is on."""
    return LevelVarifocalLoss(
        gamma=keys.FOCAL_LOSS_GAMMA, alpha=keys.VARIFOCAL_ALPHA, **umop_arguments(cfg)
    )
