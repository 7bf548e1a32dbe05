"""Focal loss over pyramid levels, and with what UMOP changes.

Letters: L levels, R anchors, K classes.
"""

from torch import Tensor

from ....functional.focal_loss import focal_loss_sum
from .classification import register_cls_loss
from .levels import LevelWiseLoss, umop_arguments

__all__ = ["LevelFocalLoss"]


class LevelFocalLoss(LevelWiseLoss):
    """RetinaNet's focal loss; under PFL alpha follows gamma.

    Args:
        gamma, alpha: of the focal loss.
        w: the product of gamma and alpha under PFL, see :func:`progressive_focus`.
        kwargs: those of :class:`LevelWiseLoss`.

    Raises:
        ValueError: for a number out of its range or an unknown name.
    """

    def __init__(self, *, gamma: float = 2.0, alpha: float = 0.25, w: float = 0.5, **kwargs):
        super().__init__(gamma=gamma, **kwargs)
        if alpha > 1:
            raise ValueError(f"FOCAL_LOSS_ALPHA is {alpha}, should be at most 1 (below 0: off)")
        lowest = gamma - self.delta
        if self.progressive_focus and not 0 < w <= lowest:
            raise ValueError(
                f"MODEL.UMOP.W is {w}, should be in (0, FOCAL_LOSS_GAMMA - DELTA ="
                f" {lowest}], so that alpha <= 1"
            )
        self.alpha = alpha
        self.w = w

    def level_sum(self, logits, labels, quality, gamma) -> Tensor:
        """Same interface as the parent's."""
        alpha = self.w / gamma if self.progressive_focus else self.alpha
        return focal_loss_sum(logits, labels, gamma=gamma, alpha=alpha)

    def _focus_scalars(self, gammas: Tensor) -> dict[str, Tensor]:
        return {**super()._focus_scalars(gammas), "alpha": self.w / gammas}


@register_cls_loss("focal")
def build_focal_loss(cfg, keys) -> LevelFocalLoss:
    """RetinaNet's focal loss."""
    return LevelFocalLoss(gamma=keys.FOCAL_LOSS_GAMMA, alpha=keys.FOCAL_LOSS_ALPHA)


@register_cls_loss("progressive_focal")
def build_progressive_focal_loss(cfg, keys) -> LevelFocalLoss:
    """UMOP's: the focal loss with what of ``MODEL.UMOP`` is on."""
    return LevelFocalLoss(
        gamma=keys.FOCAL_LOSS_GAMMA,
        alpha=keys.FOCAL_LOSS_ALPHA,
        w=cfg.MODEL.UMOP.W,
        **umop_arguments(cfg),
    )
