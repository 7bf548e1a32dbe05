"""One-stage OHEM as a classification loss over pyramid levels."""

import torch
from torch import Tensor

from ....functional.hard_negative_mining import hard_negative_bce_sum
from ....key import Key
from ....ranges import POSITIVE
from .classification import ClassificationLoss, LevelLoss, declare_numbers, register_cls_loss
from .predictions import LabelledPredictions

__all__ = ["HardNegativeLoss"]


class HardNegativeLoss(ClassificationLoss):
    """One-stage OHEM in the place of the focal loss: all positives, the hardest negatives.

    The negatives are ranked over all levels and images of a rank together; fewer positives than
    images count as one per image.
    """

    def __init__(self, *, neg_pos_ratio: float = 3.0):
        if not neg_pos_ratio > 0:
            raise ValueError(f"OHEM_NEG_POS_RATIO is {neg_pos_ratio}, should be > 0")
        self.neg_pos_ratio = neg_pos_ratio

    def __call__(self, predictions, totals, normalizer) -> LevelLoss:
        """Same interface as :meth:`ClassificationLoss.__call__`; logs nothing of its own."""
        return LevelLoss(self.plain_sum(predictions) / normalizer)

    def plain_sum(self, predictions: LabelledPredictions) -> Tensor:
        """Same interface as the parent's; ranked over the images given."""
        logits = torch.cat(predictions.logits, dim=1).flatten(0, 1)
        labels, num_images = predictions.labels.flatten(), len(predictions.labels)
        return hard_negative_bce_sum(
            logits, labels, neg_pos_ratio=self.neg_pos_ratio, min_positives=num_images
        )


declare_numbers(OHEM_NEG_POS_RATIO=Key(3.0, POSITIVE, 'Negatives for each positive under "ohem".'))


@register_cls_loss("ohem")
def build_hard_negative_loss(cfg, keys) -> HardNegativeLoss:
    """One-stage OHEM."""
    return HardNegativeLoss(neg_pos_ratio=keys.OHEM_NEG_POS_RATIO)
