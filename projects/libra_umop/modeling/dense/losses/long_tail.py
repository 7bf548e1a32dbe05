"""Classification losses against the imbalance between classes.

Letters: N images, L levels, R anchors of a level, K classes. Labels: -1 ignore, [0, K) foreground,
K background.
"""

import torch
from torch import Tensor

from ....functional.focal_loss import focal_loss_sum
from ....functional.long_tail import class_balance, equalized_focal_loss_sum
from ....key import Key
from ....ranges import NOT_NEGATIVE
from ...optional_buffers import OptionalBuffers
from .classification import ClassificationLoss, LevelLoss, declare_numbers, register_cls_loss
from .normalizers import RankTotals
from .predictions import LabelledPredictions

__all__ = ["EqualizedFocalLoss"]


class EqualizedFocalLoss(OptionalBuffers, ClassificationLoss):
    """Equalised focal loss (Li et al., CVPR 2022, https://arxiv.org/abs/2201.02593).

    The gradient that the positives and the negatives of each class got so far, on all ranks, says
    how far a class's exponent is from that of the focal loss. It is a buffer, in the checkpoints;
    a step is counted after its loss, and only where gradients are computed.
    """

    gradients: Tensor

    def __init__(
        self, *, num_classes: int, gamma: float = 2.0, alpha: float = 0.25, scale: float = 8.0
    ):
        """A loss that has seen nothing yet, the focal one.

        Args:
            num_classes: K.
            gamma, alpha: of the focal loss, which a class in balance has; gamma > 0.
            scale: how much the exponent of a class out of balance may grow, >= 0.

        Raises:
            ValueError: for a number out of its range.
        """
        super().__init__()
        if not gamma > 0:
            raise ValueError(f"FOCAL_LOSS_GAMMA is {gamma}, should be > 0 for the equalised loss")
        if alpha > 1:
            raise ValueError(f"FOCAL_LOSS_ALPHA is {alpha}, should be at most 1 (below 0: off)")
        self.gamma, self.alpha, self.scale = gamma, alpha, scale
        self.register_buffer("gradients", torch.zeros(2, num_classes))  # of positives, of negatives
        self._level_losses: list[Tensor] = []  # of this step, between sums and the loss

    def sums(self, predictions: LabelledPredictions) -> Tensor:
        """(L, 2 K) fp32: each level's gradients, of the positives and of the negatives."""
        numbers = {"gamma": self.gamma, "alpha": self.alpha, "scale": self.scale}
        balance = class_balance(self.gradients)
        pairs = [
            equalized_focal_loss_sum(x, y, balance, **numbers) for x, y in predictions.levels()
        ]
        # The loss comes along with its gradient; so it is kept, and not computed once more.
        self._level_losses = [loss for loss, _ in pairs]
        # NaN is left out: its loss is NaN anyway, but through the sum it would be so for ever.
        return torch.stack([x.flatten() for _, x in pairs]).float().nan_to_num(posinf=0.0)

    def __call__(
        self, predictions: LabelledPredictions, totals: RankTotals, normalizer: Tensor
    ) -> LevelLoss:
        """Same interface as :meth:`ClassificationLoss.__call__`."""
        level_losses = torch.stack(self._level_losses) / normalizer
        self._level_losses = []
        if torch.is_grad_enabled():
            self.gradients += totals.sums.sum(dim=0).view_as(self.gradients) / normalizer
        return LevelLoss(level_losses.sum(), {"loss_cls": level_losses.detach()})

    def plain_sum(self, predictions: LabelledPredictions) -> Tensor:
        """The focal loss, summed over all anchors (0-dim): a measure that stays the same."""
        logits = torch.cat(predictions.logits, dim=1).flatten(0, 1)
        labels = predictions.labels.flatten()
        return focal_loss_sum(logits, labels, gamma=self.gamma, alpha=self.alpha)


declare_numbers(
    EQUALIZED_SCALE=Key(
        8.0,
        NOT_NEGATIVE,
        's under "equalized_focal" (Li et al., CVPR 2022): how much larger than'
        " `FOCAL_LOSS_GAMMA` the exponent of a class can get whose positives have no gradient"
        " beside its negatives.",
    )
)


@register_cls_loss("equalized_focal")
def build_equalized_focal_loss(cfg, keys) -> EqualizedFocalLoss:
    """The focal loss with an exponent of each class."""
    return EqualizedFocalLoss(
        num_classes=keys.NUM_CLASSES,
        gamma=keys.FOCAL_LOSS_GAMMA,
        alpha=keys.FOCAL_LOSS_ALPHA,
        scale=keys.EQUALIZED_SCALE,
    )
