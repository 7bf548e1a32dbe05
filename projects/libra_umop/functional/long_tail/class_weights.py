"""Class weights by the effective number of samples (Cui et al., CVPR 2019, arXiv 1901.05555)."""

import math

import torch
from torch import Tensor

__all__ = ["effective_number_weights"]


def effective_number_weights(counts: Tensor, *, beta: float) -> Tensor:
    """A weight for each class, the larger the fewer its samples (Cui et al., section 4).

    The n-th sample of a class adds less than the first: the effective number of n samples is
    ``E_n = (1 - beta^n) / (1 - beta)``, which ends at 1 / (1 - beta). The weights are ``1 / E_n``,
    scaled to a mean of 1 over the classes. With beta 0 all are 1; as beta nears 1 they become those
    of the inverse frequency.

    Args:
        counts: (K,) samples of each class, >= 0. A class without any has no part in the mean, and
            weight 1, which nothing is multiplied with.
        beta: in [0, 1).

    Returns:
        (K,) fp32 on the device of ``counts``. No gradient.

    Raises:
        ValueError: ``beta`` is out of its range.

    Examples:
        >>> effective_number_weights(torch.tensor([1000, 10, 1]), beta=0.99)
        tensor([0.0269, 0.2815, 2.6916])
    """
    if not 0 <= beta < 1:
        raise ValueError(f"beta is {beta}, should be in [0, 1)")
    counts = counts.detach().double()
    if beta == 0:
        return torch.ones_like(counts, dtype=torch.float32)
    is_seen = counts > 0
    # 1 - beta^n; written so, nothing cancels where beta is near 1.
    spread = -torch.expm1(counts.clamp(min=1) * math.log(beta))
    weights = torch.where(is_seen, (1 - beta) / spread, 0.0)
    mean = weights.sum() / is_seen.sum().clamp(min=1)
    return torch.where(is_seen, weights / mean, 1.0).float()
