"""Classification by localisation quality, and box edges as distributions (GFL, VarifocalNet).

Letters: R anchors, K classes, n + 1 bins. Labels: -1 ignore, [0, K) foreground, K background.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from .focal_loss.sums import sigmoid_loss_sum

__all__ = ["distribution_focal_loss", "quality_focal_loss_sum", "varifocal_loss_sum"]


def quality_focal_loss_sum(
    logits: Tensor, labels: Tensor, quality: Tensor, *, beta: float | Tensor = 2.0
) -> Tensor:
    """Quality focal loss (Li et al., https://arxiv.org/abs/2006.04388, equation 4), summed.

    ``-|y - p|^beta ((1 - y) ln(1 - p) + y ln p)``, p = sigmoid(logit), y the quality for a
    positive's own class and 0 for every other class. Labels stay indices, and the exact gradient
    is computed along with the loss. Finite wherever the logits are; fp32 inside for half-precision
    logits, also under autocast. Differentiable once, with respect to ``logits``; the quality is a
    target and gets no gradient.

    Args:
        logits: (R, K), floating point.
        labels: (R,) int64 in {-1} + [0, K]; rows of -1 contribute nothing, K is background.
        quality: (R,) floating point in [0, 1], the IoU of the predicted with the matched box;
            read for positives only.
        beta: focusing exponent >= 0, a float or a 0-dim tensor.

    Returns:
        0-dim tensor, fp32 (fp64 for fp64 logits). Zero with a live gradient if R is 0.

    Raises:
        ValueError: if the shapes do not fit.

    Examples:
        >>> logits, labels = torch.zeros(2, 1), torch.tensor([0, 1])  # class 0 and background
        >>> quality_focal_loss_sum(logits, labels, torch.tensor([0.5, 0.0]))  # 0 and ln 2 / 4
        tensor(0.1733)
    """
    return sigmoid_loss_sum("quality_focal", logits, labels, quality, beta, (1.0, 1.0))


def varifocal_loss_sum(
    logits: Tensor,
    labels: Tensor,
    quality: Tensor,
    *,
    alpha: float | Tensor = 0.75,
    gamma: float | Tensor = 2.0,
) -> Tensor:
    """Varifocal loss (Zhang et al., https://arxiv.org/abs/2008.13367, equation 2), summed.

    ``-q (q ln p + (1 - q) ln(1 - p))`` for the own class of a positive with quality q > 0, and
    ``-alpha p^gamma ln(1 - p)`` for every other class, p = sigmoid(logit); the own class of a
    positive without overlap, q = 0, is such a one, too. Otherwise as
    :func:`quality_focal_loss_sum`.

    Args:
        logits, labels, quality: see :func:`quality_focal_loss_sum`.
        alpha: weight of the negatives >= 0, a float or a 0-dim tensor.
        gamma: exponent of the negatives >= 0, a float or a 0-dim tensor.

    Returns:
        0-dim tensor, fp32 (fp64 for fp64 logits). Zero with a live gradient if R is 0.

    Raises:
        ValueError: if the shapes do not fit.

    Examples:
        >>> logits, labels = torch.zeros(2, 1), torch.tensor([0, 1])  # class 0 and background
        >>> quality = torch.tensor([0.8, 0.0])
        >>> varifocal_loss_sum(logits, labels, quality)  # (0.8 + 0.75 / 4) ln 2
        tensor(0.6845)
    """
    if quality.shape == labels.shape and logits.dim() == 2:  # else it is refused below
        labels = labels.masked_fill((quality <= 0) & (labels >= 0), logits.shape[1])
    return sigmoid_loss_sum("varifocal", logits, labels, quality, gamma, (1.0, alpha))


def distribution_focal_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Distribution focal loss (Li et al., https://arxiv.org/abs/2006.04388, equation 6).

    An edge's distance, in bins, is a distribution over 0, 1, ..., n. The loss is the cross entropy
    with the two bins around the target y, ``i <= y <= i + 1``, weighted by how near they are:
    ``-((i + 1 - y) ln S_i + (y - i) ln S_(i+1))``, S = softmax(logits). fp32 inside for
    half-precision logits, also under autocast.

    Args:
        logits: (R, n + 1), floating point, n >= 1.
        target: (R,) floating point in [0, n]; what lies outside counts as the nearer end. No
            gradient.

    Returns:
        (R,), fp32 (fp64 for fp64 logits): the loss of each edge. Its sum over no edge is zero with
        a live gradient.

    Raises:
        ValueError: if the shapes do not fit, or there are fewer than two bins.

    Examples:
        >>> logits = torch.zeros(1, 4)  # as likely in each of the 4 bins
        >>> distribution_focal_loss(logits, torch.tensor([1.5]))  # ln 4
        tensor([1.3863])
    """
    if logits.dim() != 2 or logits.shape[1] < 2 or target.shape != logits.shape[:1]:
        raise ValueError(
            f"logits and target are {tuple(logits.shape)} and {tuple(target.shape)}, should be"
            " (R, n + 1) with n >= 1 and (R,)"
        )
    n = logits.shape[1] - 1
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    target = target.detach().to(dtype).clamp(0, n)
    # The target n is the upper of its two bins; NaN, too, gets bins that there are.
    lower = target.floor().long().clamp(0, n - 1)  # (R,)
    log_p = F.log_softmax(logits.to(dtype), dim=1)
    around = log_p.gather(1, torch.stack((lower, lower + 1), dim=1))  # (R, 2)
    nearness = torch.stack((lower + 1 - target, target - lower), dim=1)  # (R, 2)
    return -(nearness * around).sum(dim=1)
