"""Progressive focal loss of UMOP (https://arxiv.org/abs/2109.07217): gamma and alpha of a level.

The loss itself is :func:`focal_loss_sum` with these two.

Letters: R anchors, K classes. Labels: -1 ignore, [0, K) foreground, K background.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from .focal_loss import focal_loss_sum

__all__ = ["FOCUS_TYPES", "focal_loss_sum", "focus_from_sums", "focus_sums", "progressive_focus"]

FOCUS_TYPES = ("mean_prob", "mean_log")


def progressive_focus(
    logits: Tensor,
    labels: Tensor,
    *,
    gamma: float = 2.0,
    delta: float = 0.5,
    w: float = 0.5,
    focus: str = "mean_prob",
) -> tuple[Tensor, Tensor]:
    """Gamma and alpha of one pyramid level (UMOP, section 3.2, progressive focal loss).

    ``gamma_l = clamp(-ln(1/n sum_i p_i), gamma - delta, gamma + delta)`` and
    ``alpha_l = w / gamma_l``, p_i the probability of positive i's own class. The harder the
    positives of a level still are, the larger its gamma. No gradient flows.

    Args:
        logits: (R, K). labels: (R,) int64 in {-1} + [0, K].
        gamma: centre of the clamp; the result if the level has no positive.
        delta: half width of the clamp, in [0, gamma).
        w: alpha_l * gamma_l.
        focus: "mean_prob" (the paper) or "mean_log" (the released code: mean of -ln p_i).

    Returns:
        gamma_l, alpha_l: 0-dim fp32 tensors.

    Examples:
        >>> logits = torch.tensor([[0.15, 0.5], [0.5, 0.5]]).logit()
        >>> labels = torch.tensor([0, 2])  # a positive with p = 0.15, and background
        >>> progressive_focus(logits, labels)  # -ln 0.15 and 0.5 / 1.8971
        (tensor(1.8971), tensor(0.2636))
    """
    total, num_pos = focus_sums(logits, labels, focus=focus)
    return focus_from_sums(total, num_pos, gamma=gamma, delta=delta, w=w, focus=focus)


@torch.no_grad()
def focus_sums(
    logits: Tensor, labels: Tensor, *, focus: str = "mean_prob"
) -> tuple[Tensor, Tensor]:
    """What :func:`progressive_focus` averages, to be added over ranks (or levels) first.

    Returns:
        sum of p_i ("mean_prob") or of -ln p_i ("mean_log") over the positives, and their number:
        0-dim fp32 tensors, both 0 without positives.

    Examples:
        >>> logits = torch.tensor([[0.1], [0.2], [0.9]]).logit()
        >>> focus_sums(logits, torch.tensor([0, 0, 1]))  # two positives and background
        (tensor(0.3000), tensor(2.))
    """
    _check_focus(focus)
    num_classes = logits.shape[1]
    is_pos = (labels >= 0) & (labels < num_classes)
    own = logits.gather(1, labels.clamp(0, num_classes - 1)[:, None])[:, 0].float()  # (R,)
    value = own.sigmoid() if focus == "mean_prob" else F.softplus(-own)
    # NaN is left out: its loss is NaN anyway, but through a sum over ranks it would be theirs, too.
    return torch.where(is_pos & ~value.isnan(), value, 0.0).sum(), is_pos.sum().float()


@torch.no_grad()
def focus_from_sums(
    total: Tensor,
    num_pos: Tensor,
    *,
    gamma: float = 2.0,
    delta: float = 0.5,
    w: float = 0.5,
    focus: str = "mean_prob",
) -> tuple[Tensor, Tensor]:
    """:func:`progressive_focus` from :func:`focus_sums`; any shape, elementwise (one per level).

    Examples:
        >>> total, num_pos = torch.tensor([0.3, 1.6, 0.0]), torch.tensor([2.0, 2.0, 0.0])
        >>> gamma, alpha = focus_from_sums(total, num_pos)
        >>> gamma  # -ln 0.15; -ln 0.8 is below the clamp; without positives the centre
        tensor([1.8971, 1.5000, 2.0000])
    """
    _check_focus(focus)
    mean = total / num_pos.clamp(min=1)
    value = -mean.log() if focus == "mean_prob" else mean
    gamma_l = torch.where(num_pos > 0, value.clamp(gamma - delta, gamma + delta), gamma)
    return gamma_l, w / gamma_l


def _check_focus(focus: str) -> None:
    if focus not in FOCUS_TYPES:
        raise ValueError(f"focus is {focus!r}, should be one of {FOCUS_TYPES}")
