"""Online hard example mining (Shrivastava et al., https://arxiv.org/abs/1604.03540)."""

import torch


def hardest(losses: torch.Tensor, num_samples: int) -> torch.Tensor:
    """Indices of the examples that the network gets most wrong (section 4).

    The ranking passes no gradient: which examples are taken is not a function to differentiate.

    Args:
        losses: the loss of each example, (R,), floating point.
        num_samples: how many to take; >= 0.

    Returns:
        Indices into ``losses``, (min(num_samples, R),), int64, hardest first; a loss that is not a
        number counts as the hardest.

    Raises:
        ValueError: ``losses`` is not a vector, or ``num_samples`` is negative.
    """
    if losses.dim() != 1:
        raise ValueError(f"losses has shape {tuple(losses.shape)}, but has to be a vector")
    if num_samples < 0:
        raise ValueError(f"num_samples is {num_samples}, but has to be >= 0")
    return losses.detach().topk(min(num_samples, len(losses))).indices
