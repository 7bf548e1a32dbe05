"""Equalised focal loss (Li et al., CVPR 2022, arXiv 2201.02593): focus by class.

Letters: R anchors, K classes. Labels: -1 ignore, [0, K) foreground, K background.
"""

import torch
from torch import Tensor

from .class_focal_loss import FocalNumbers, focal_loss_and_gradients, focal_weights, inner_dtype

__all__ = ["class_balance", "equalized_focal_loss_sum"]


def equalized_focal_loss_sum(
    logits: Tensor,
    labels: Tensor,
    balance: Tensor,
    *,
    gamma: float = 2.0,
    alpha: float = 0.25,
    scale: float = 8.0,
) -> tuple[Tensor, Tensor]:
    """Focal loss with an exponent and a weight of each class (EFL, section 3), summed.

    ``gamma_j = gamma + scale (1 - g_j)``, and the terms of class j, positives' and negatives', are
    multiplied by ``gamma_j / gamma``: the exponent of a rare class rules out more of its easy
    negatives, and the factor makes up for the loss that a larger exponent takes away. g_j is how
    far the class is trained in balance so far, see :func:`class_balance`; where it is 1 the class
    has the focal loss. fp32 inside for half-precision logits, also under autocast. Differentiable
    once, with respect to ``logits``.

    Args:
        logits: (R, K), floating point.
        labels: (R,) int64 in {-1} + [0, K]; rows of -1 contribute nothing, K is background.
        balance: (K,), g in [0, 1].
        gamma: exponent of a class in balance, > 0.
        alpha: weight of the positives in [0, 1]; below 0 both kinds have weight 1.
        scale: s >= 0, how much the exponent grows at most.

    Returns:
        the loss, 0-dim; and without gradient, (2, K): abs of its derivative by the logits of a
        class, summed over the class's own anchors and over all others, to be added up over the
        training for :func:`class_balance`. Both fp32 (fp64 for fp64 logits). Zeros, the loss with
        a live gradient, if R is 0.

    Raises:
        ValueError: if the shapes do not fit, or a number is out of its range.

    Examples:
        >>> logits, labels = torch.zeros(2, 3), torch.tensor([0, 3])
        >>> balance = torch.tensor([1.0, 0.5, 0.0])
        >>> loss, gradients = equalized_focal_loss_sum(logits, labels, balance)
        >>> loss
        tensor(0.2271)
        >>> class_balance(gradients)
        tensor([0.3333, 0.0000, 0.0000])
    """
    if not gamma > 0 or not scale >= 0:
        raise ValueError(f"gamma is {gamma} and scale {scale}, should be > 0 and >= 0")
    if balance.shape != logits.shape[1:]:
        should = tuple(logits.shape[1:])
        raise ValueError(f"balance is {tuple(balance.shape)}, should be {should}")
    pos_weight, neg_weight = focal_weights(alpha)
    gammas = gamma + scale * (1 - balance.detach().to(inner_dtype(logits)))  # (K,)
    factor = gammas / gamma
    numbers = FocalNumbers(gammas, pos_weight * factor, neg_weight * factor, gammas.new_ones(()))
    return focal_loss_and_gradients(logits, labels, numbers)


@torch.no_grad()
def class_balance(gradients: Tensor) -> Tensor:
    """How far each class was trained in balance: its positives' gradient over its negatives'.

    Args:
        gradients: (2, K), sums of what :func:`equalized_focal_loss_sum` gives.

    Returns:
        (K,) in [0, 1]; 1 where the negatives had the smaller part, or no class had any yet.

    Examples:
        >>> class_balance(torch.tensor([[1.0, 3.0, 0.0], [4.0, 2.0, 0.0]]))  # 1 / 4, 3 / 2, neither
        tensor([0.2500, 1.0000, 1.0000])
    """
    positives, negatives = gradients
    ratio = positives / negatives.clamp(min=1e-10)
    return torch.where(positives + negatives > 0, ratio.clamp(0, 1), 1.0)
