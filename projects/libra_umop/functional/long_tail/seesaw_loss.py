"""Seesaw loss (Wang et al., CVPR 2021, arXiv 2008.10032): softmax that spares the rare classes.

Letters: R regions, K classes. Labels: [0, K) foreground, K background.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["seesaw_loss"]


def seesaw_loss(
    logits: Tensor,
    labels: Tensor,
    counts: Tensor,
    *,
    p: float = 0.8,
    q: float = 2.0,
    eps: float = 0.01,
) -> Tensor:
    """Cross entropy in which a region presses less on the classes rarer than its own.

    ``-ln s_i, s_i = e^z_i / (sum_(j != i) S_ij e^z_j + e^z_i)``, i the region's own class
    (section 3), with ``S_ij = M_ij C_ij``. Mitigation: ``M_ij = (N_j /
    N_i)^p`` where class j has been seen less often than class i, else 1. Compensation:
    ``C_ij = (s'_j / s'_i)^q`` where the region is taken for class j rather, s' the plain
    softmax, else 1. Both are factors without a gradient.

    The paper keeps background apart by an objectness branch of its own. Here it stays a column of
    the softmax, as in the plain head, and with it S is 1: neither do regions of a class press less
    on background, nor does background, which is by far the most frequent, spare the classes.
    fp32 inside for half-precision logits, also under autocast.

    Args:
        logits: (R, K + 1), floating point; the last column is background.
        labels: (R,) int64 in [0, K].
        counts: (K,) N, how many regions of each class were seen so far; below 1 counts as 1.
        p: of the mitigation, >= 0; 0 is none.
        q: of the compensation, >= 0; 0 is none.
        eps: s'_i is at least this in C, which is so at most ``eps^-q``; > 0.

    Returns:
        (R,), fp32 (fp64 for fp64 logits): the loss of each region. Its sum over no region is zero
        with a live gradient. With p and q 0 it is the cross entropy.

    Raises:
        ValueError: if the shapes do not fit, or a number is out of its range.

    Examples:
        >>> logits, labels = torch.zeros(2, 3), torch.tensor([0, 1])
        >>> seesaw_loss(logits, labels, torch.tensor([100, 1]))
        tensor([0.7056, 1.0986])
    """
    if logits.dim() != 2 or labels.shape != logits.shape[:1] or len(counts) + 1 != logits.shape[1]:
        raise ValueError(
            f"logits, labels, counts are {tuple(logits.shape)}, {tuple(labels.shape)},"
            f" {tuple(counts.shape)}, should be (R, K + 1), (R,), (K,)"
        )
    if not (p >= 0 and q >= 0 and eps > 0):
        raise ValueError(f"p, q, eps are {p}, {q}, {eps}, should be >= 0, >= 0 and > 0")
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    z = logits.to(dtype)
    return F.nll_loss(
        F.log_softmax(z + _log_factors(z.detach(), labels, counts, p, q, eps), dim=1),
        labels,
        reduction="none",
    )


@torch.no_grad()
def _log_factors(
    z: Tensor, labels: Tensor, counts: Tensor, p: float, q: float, eps: float
) -> Tensor:
    """``ln S`` of each region's class with all others, (R, K + 1)."""
    num_classes = len(counts)
    own = labels[:, None]  # (R, 1)
    log_n = counts.detach().to(z.dtype).clamp(min=1).log()
    log_n = torch.cat((log_n, log_n.new_zeros(1)))  # (K + 1,), background is left out below
    mitigation = (log_n[None] - log_n[labels][:, None]).clamp(max=0)  # (R, K + 1)
    log_p = F.log_softmax(z, dim=1)
    own_log_p = log_p.gather(1, own).clamp(min=math.log(eps))
    compensation = (log_p - own_log_p).clamp(min=0)
    factors = p * mitigation + q * compensation
    classes = torch.arange(num_classes + 1, device=z.device)
    untouched = (own == classes) | (own == num_classes) | (classes == num_classes)
    return factors.masked_fill(untouched, 0.0)
