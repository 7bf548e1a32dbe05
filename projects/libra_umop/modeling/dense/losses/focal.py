"""Focal loss over pyramid levels, and with what UMOP changes.

Letters: L levels, R anchors, K classes.
"""

from typing import Any

from torch import Tensor, nn

from ....functional.focal_loss import focal_loss_sum
from ....functional.long_tail import class_balanced_focal_loss_sum
from ...class_weights import build_class_weights, require_counted
from .classification import register_cls_loss
from .levels import LevelWiseLoss, umop_arguments

__all__ = ["ClassWeightedFocalLoss", "LevelFocalLoss"]


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
        return focal_loss_sum(logits, labels, gamma=gamma, alpha=self.alpha_of(gamma))

    def alpha_of(self, gamma: float | Tensor) -> float | Tensor:
        """Alpha beside a gamma, which PFL may have moved."""
        return self.w / gamma if self.progressive_focus else self.alpha

    def _focus_scalars(self, gammas: Tensor) -> dict[str, Tensor]:
        return {**super()._focus_scalars(gammas), "alpha": self.w / gammas}


class ClassWeightedFocalLoss(LevelFocalLoss, nn.Module):
    """The focal loss, an anchor weighted by its class, background by 1.

    Args:
        class_weights: (K,).
        kwargs: those of :class:`LevelFocalLoss`.

    Raises:
        ValueError: for a number out of its range or an unknown name.
    """

    class_weights: Tensor

    def __init__(self, *, class_weights: Tensor, **kwargs):
        nn.Module.__init__(self)
        LevelFocalLoss.__init__(self, **kwargs)
        self.register_buffer("class_weights", class_weights, persistent=False)

    def level_sum(self, logits, labels, quality, gamma) -> Tensor:
        """Same interface as the parent's."""
        require_counted(self.class_weights)
        numbers = {"gamma": gamma, "alpha": self.alpha_of(gamma)}
        return class_balanced_focal_loss_sum(logits, labels, self.class_weights, **numbers)

    def plain(self) -> LevelFocalLoss:
        """The focal loss without PFL, LRP and weights."""
        return LevelFocalLoss(gamma=self.gamma, alpha=self.alpha)


def _build(cfg, keys, **umop: Any) -> LevelFocalLoss:
    numbers = {"gamma": keys.FOCAL_LOSS_GAMMA, "alpha": keys.FOCAL_LOSS_ALPHA, **umop}
    class_weights = build_class_weights(cfg, keys.NUM_CLASSES)
    if class_weights is None:
        return LevelFocalLoss(**numbers)
    return ClassWeightedFocalLoss(class_weights=class_weights, **numbers)


@register_cls_loss("focal")
def build_focal_loss(cfg, keys) -> LevelFocalLoss:
    """RetinaNet's focal loss."""
    return _build(cfg, keys)


@register_cls_loss("progressive_focal")
def build_progressive_focal_loss(cfg, keys) -> LevelFocalLoss:
    """UMOP's: the focal loss with what of ``MODEL.UMOP`` is on."""
    return _build(cfg, keys, w=cfg.MODEL.UMOP.W, **umop_arguments(cfg))
