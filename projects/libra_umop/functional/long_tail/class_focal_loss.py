"""Sigmoid focal loss whose numbers differ from class to class, with its gradient in closed form.

Letters: R anchors, r of a part of them, K classes. Labels: -1 ignore, [0, K) foreground, K
background.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ..focal_loss.sums import negative_term

__all__ = [
    "FocalNumbers",
    "class_balanced_focal_loss_sum",
    "focal_loss_and_gradients",
    "focal_loss_by_class",
]

# Elements that one step of the loop works on, as in ``focal_loss/sums.py``.
_CPU_CHUNK = 1 << 17
_CUDA_CHUNK = 1 << 24


class FocalNumbers(NamedTuple):
    """Numbers of the focal loss, each 0-dim or of the shape that is given."""

    gamma: Tensor  # (K,), exponent of a class's column
    pos_weight: Tensor  # (K,), of a class's own anchors
    neg_weight: Tensor  # (K,), of all other anchors in its column
    row_weight: Tensor  # (K + 1,), of all columns of an anchor, by its label


def class_balanced_focal_loss_sum(
    logits: Tensor,
    labels: Tensor,
    class_weights: Tensor,
    *,
    gamma: float | Tensor,
    alpha: float | Tensor,
) -> Tensor:
    """Sigmoid focal loss, an anchor weighted by its class (Cui et al., section 4.3), summed.

    The focal loss of :func:`focal_loss_sum`, all K terms of a positive multiplied by the weight of
    its class; background has weight 1. fp32 inside for half-precision logits, also under autocast.
    Differentiable once, with respect to ``logits``.

    Args:
        logits: (R, K), floating point.
        labels: (R,) int64 in {-1} + [0, K]; rows of -1 contribute nothing, K is background.
        class_weights: (K,), such as :func:`effective_number_weights` gives.
        gamma: focusing exponent >= 0, a float or a 0-dim tensor.
        alpha: weight of the positives in [0, 1], a float or a 0-dim tensor; a negative float
            weights both kinds by 1.

    Returns:
        0-dim tensor, fp32 (fp64 for fp64 logits). Zero with a live gradient if R is 0.

    Raises:
        ValueError: if the shapes do not fit.

    Examples:
        >>> logits, labels = torch.zeros(2, 3), torch.tensor([0, 3])
        >>> weights = torch.tensor([4.0, 1.0, 1.0])
        >>> class_balanced_focal_loss_sum(logits, labels, weights, gamma=2.0, alpha=0.5)
        tensor(1.2997)
    """
    pos_weight, neg_weight = focal_weights(alpha)
    row_weight = torch.cat((class_weights, class_weights.new_ones(1)))
    numbers = _numbers(logits, gamma, pos_weight, neg_weight, row_weight)
    return focal_loss_and_gradients(logits, labels, numbers)[0]


def focal_weights(alpha: float | Tensor) -> tuple[float | Tensor, float | Tensor]:
    """Weights of positives and negatives, by alpha; both 1 for a negative float."""
    off = isinstance(alpha, (int, float)) and alpha < 0
    return (1.0, 1.0) if off else (alpha, 1 - alpha)


def _numbers(logits: Tensor, *values: float | Tensor) -> FocalNumbers:
    inner = inner_dtype(logits)
    return FocalNumbers(
        *(
            x.detach().to(logits.device, inner)
            if isinstance(x, Tensor)
            else logits.new_full((), x, dtype=inner)
            for x in values
        )
    )


def focal_loss_and_gradients(
    logits: Tensor, labels: Tensor, numbers: FocalNumbers
) -> tuple[Tensor, Tensor]:
    """The loss, and how much of its gradient the classes' positives and negatives get.

    Args:
        logits: (R, K), floating point. labels: (R,) int64 in {-1} + [0, K].
        numbers: in :func:`inner_dtype`, on the device of ``logits``.

    Returns:
        the loss, 0-dim; and without gradient, (2, K): abs of its derivative by the logits of a
        class, summed over the class's own anchors, and over all others. Both fp32, fp64 for fp64.

    Raises:
        ValueError: if the shapes do not fit.
    """
    num_classes = logits.shape[-1]
    if logits.dim() != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(
            f"logits and labels are {tuple(logits.shape)} and {tuple(labels.shape)}, should be"
            " (R, K) and (R,)"
        )
    for name, size in zip(
        FocalNumbers._fields, (num_classes,) * 3 + (num_classes + 1,), strict=True
    ):
        shape = getattr(numbers, name).shape
        if shape not in ((), (size,)):
            raise ValueError(f"{name} is {tuple(shape)}, should be one number or ({size},)")
    return _ClassFocalLossSum.apply(logits, labels, *numbers)


@torch.no_grad()
def focal_loss_by_class(
    logits: Tensor, labels: Tensor, *, gamma: float, alpha: float
) -> tuple[Tensor, Tensor]:
    """The focal loss of each class's column, of its own anchors and of all others. No gradient.

    Args:
        logits, labels, gamma, alpha: see :func:`focal_loss_sum`; floats.

    Returns:
        two tensors (K,), fp32 (fp64 for fp64 logits); together they sum to the loss.

    Examples:
        >>> logits, labels = torch.zeros(2, 3), torch.tensor([0, 3])
        >>> focal_loss_by_class(logits, labels, gamma=0.0, alpha=0.25)
        (tensor([0.1733, 0.0000, 0.0000]), tensor([0.5199, 1.0397, 1.0397]))
    """
    pos_weight, neg_weight = focal_weights(alpha)
    step, classes = _rows_of_a_chunk(logits), torch.arange(logits.shape[1], device=logits.device)
    sums = logits.new_zeros(2, logits.shape[1], dtype=inner_dtype(logits))
    for i in range(0, len(logits), step):
        x, labels_i = logits[i : i + step].to(sums.dtype), labels[i : i + step, None]
        is_own = labels_i == classes  # (r, K)
        loss, _ = negative_term(torch.where(is_own, -x, x), gamma, False)
        loss = torch.where(labels_i >= 0, loss, 0.0)
        sums[0] += pos_weight * torch.where(is_own, loss, 0.0).sum(dim=0)
        sums[1] += neg_weight * loss.masked_fill(is_own, 0.0).sum(dim=0)
    return sums[0], sums[1]


def inner_dtype(logits: Tensor) -> torch.dtype:
    """fp32, fp64 for fp64."""
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


class _ClassFocalLossSum(torch.autograd.Function):
    """The gradient is written in the forward pass, as in :class:`SigmoidLossSum`."""

    @staticmethod
    def forward(ctx, logits, labels, *numbers):
        numbers = FocalNumbers(*numbers)
        grad = torch.empty_like(logits, dtype=inner_dtype(logits))
        # The compiler fuses what the chunks keep in the cache.
        step = max(len(logits), 1) if torch.compiler.is_compiling() else _rows_of_a_chunk(logits)
        total = grad.new_zeros(())
        gradients = grad.new_zeros(2, logits.shape[1])
        for i in range(0, len(logits), step):
            rows = slice(i, i + step)
            loss_i, gradients_i = _part(logits[rows], labels[rows], numbers, grad[rows])
            total = total + loss_i
            gradients = gradients + gradients_i
        ctx.logits_dtype = logits.dtype
        ctx.save_for_backward(grad)
        ctx.mark_non_differentiable(gradients)
        return total, gradients

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_output, _):
        (grad,) = ctx.saved_tensors
        return (grad * grad_output).to(ctx.logits_dtype), *[None] * 5


def _rows_of_a_chunk(logits: Tensor) -> int:
    chunk = _CUDA_CHUNK if logits.is_cuda else _CPU_CHUNK
    return max(chunk // max(logits.shape[1], 1), 1)


def _part(
    logits: Tensor, labels: Tensor, numbers: FocalNumbers, grad: Tensor
) -> tuple[Tensor, Tensor]:
    """Loss and gradients of ``logits`` (r, K); the derivative is written to ``grad`` (r, K)."""
    x = logits.to(grad.dtype)
    is_own = labels[:, None] == torch.arange(x.shape[1], device=x.device)  # (r, K)
    # -(1 - p)^gamma ln p is the term of a negative, -p^gamma ln(1 - p), with x -> -x.
    sign = torch.where(is_own, -1.0, 1.0).to(x.dtype)
    loss, slope = negative_term(x * sign, numbers.gamma, True)
    weight = torch.where(is_own, numbers.pos_weight, numbers.neg_weight)
    weight = weight * numbers.row_weight.expand(x.shape[1] + 1)[labels.clamp(min=0)][:, None]
    counted = (labels >= 0)[:, None]
    loss = torch.where(counted, loss * weight, 0.0)
    slope = torch.where(counted, slope * weight, 0.0)
    torch.mul(slope, sign, out=grad)
    size = slope.abs_()
    own = torch.where(is_own, size, 0.0).sum(dim=0)
    others = size.masked_fill_(is_own, 0.0).sum(dim=0)  # not the sum less own, which may cancel
    return loss.sum(), torch.stack((own, others))
