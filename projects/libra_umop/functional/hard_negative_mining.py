"""Online hard example mining (Shrivastava et al., https://arxiv.org/abs/1604.03540).

Of regions, and for one-stage detectors, where it is the baseline that focal loss is measured by.

Letters: R anchors, K classes. Labels: -1 ignore, [0, K) foreground, K background.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["hard_negative_bce_sum", "hardest"]


def hard_negative_bce_sum(
    logits: Tensor, labels: Tensor, *, neg_pos_ratio: float = 3.0, min_positives: int = 1
) -> Tensor:
    """Binary cross entropy of all positives and of the hardest negatives only (RetinaNet, 5.1).

    An anchor's loss is the sum over its K classes. All positive anchors count, and of the
    background anchors the ``neg_pos_ratio * max(positives, min_positives)`` with the largest loss,
    so that an image set without objects still teaches something. The ranking has no gradient, is
    exact over all images given, and does not wait for the device.

    Args:
        logits: (R, K). labels: (R,) int64 in {-1} + [0, K]; rows of -1 contribute nothing.
        neg_pos_ratio: negatives for each positive, > 0; the paper's baseline uses 3 (1:3).
        min_positives: as many positives are counted at least, for instance one per image; >= 1.

    Returns:
        0-dim tensor, fp32 (fp64 for fp64 logits). Zero with a live gradient if R is 0.

    Raises:
        ValueError: if ``neg_pos_ratio`` is not positive.

    Examples:
        >>> logits = torch.tensor([[0.0], [0.0], [-2.0], [-9.0]])
        >>> labels = torch.tensor([0, 1, 1, 1])  # a positive and three of background
        >>> hard_negative_bce_sum(logits, labels, neg_pos_ratio=1)  # ln 2 of it and of the hardest
        tensor(1.3863)
    """
    if not neg_pos_ratio > 0:
        raise ValueError(f"neg_pos_ratio is {neg_pos_ratio}, should be > 0")
    num_classes = logits.shape[1]
    x = logits if logits.dtype == torch.float64 else logits.float()
    # Ignored rows are replaced before the loss: after it, their gradient would be 0 times an inf.
    x = torch.where((labels >= 0)[:, None], x, 0.0)
    is_pos = (labels >= 0) & (labels < num_classes)
    own = x.gather(1, labels.clamp(0, num_classes - 1)[:, None])[:, 0]  # (R,)
    # bce = softplus(x) - x y, and y is 1 for the own class alone.
    loss = F.softplus(x, threshold=40.0).sum(dim=1) - torch.where(is_pos, own, 0.0)  # (R,)

    num_neg = neg_pos_ratio * is_pos.sum().clamp(min=min_positives)
    with torch.no_grad():
        hardness = torch.where(labels == num_classes, loss, -1.0)
        order = hardness.argsort(descending=True)
        ranks = torch.arange(len(order), device=order.device)
        rank = torch.empty_like(order).scatter_(0, order, ranks)
    is_used = is_pos | ((labels == num_classes) & (rank < num_neg))
    return torch.where(is_used, loss, 0.0).sum()


def hardest(losses: Tensor, num_samples: int) -> Tensor:
    """Indices of the examples that the network gets most wrong (OHEM, section 4).

    The ranking passes no gradient: which examples are taken is not a function to differentiate.

    Args:
        losses: the loss of each example, (R,), floating point.
        num_samples: how many to take; >= 0.

    Returns:
        Indices into ``losses``, (min(num_samples, R),), int64, hardest first; a loss that is not a
        number counts as the hardest.

    Raises:
        ValueError: ``losses`` is not a vector, or ``num_samples`` is negative.

    Examples:
        >>> hardest(torch.tensor([0.1, 3.0, 0.5, 2.0]), 2)
        tensor([1, 3])
    """
    if losses.dim() != 1:
        raise ValueError(f"losses.shape is {tuple(losses.shape)}, should be that of a vector")
    if num_samples < 0:
        raise ValueError(f"num_samples is {num_samples}, should be >= 0")
    return losses.detach().topk(min(num_samples, len(losses))).indices
