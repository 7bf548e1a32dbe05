"""What the focal loss and its kin share: a sum over anchors and classes with its gradient.

They have one term for all negatives, ``-p^gamma ln(1 - p)``, and differ in the term of a positive's
own class, for which each has a kind: "focal", "quality_focal" or "varifocal".

Letters: R anchors, K classes. Labels: -1 ignore, [0, K) foreground, K background.
"""

import functools
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["negative_term", "sigmoid_loss_sum"]

# Elements that one step of the eager loop works on. On a CPU its temporaries stay in the cache; on
# a GPU they stay below half a GiB.
_CPU_CHUNK = 1 << 17
_CUDA_CHUNK = 1 << 24

Number = float | Tensor  # a Tensor is 0-dim


def sigmoid_loss_sum(
    kind: str,
    logits: Tensor,
    labels: Tensor,
    quality: Tensor | None,
    gamma: Number,
    weights: tuple[Number, Number],
) -> Tensor:
    """``w_pos`` times the own classes' terms plus ``w_neg`` times those of all other classes.

    Args:
        kind: a name in ``_OWN_TERMS``.
        logits: (R, K), floating point. labels: (R,) int64 in {-1} + [0, K].
        quality: (R,) in [0, 1], read for positives; None if the kind has none. No gradient.
        gamma: exponent >= 0; weights: w_pos, w_neg.

    Returns:
        0-dim tensor, fp32 (fp64 for fp64 logits).

    Raises:
        ValueError: if the shapes do not fit.
    """
    if logits.dim() != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(
            f"logits and labels are {tuple(logits.shape)} and {tuple(labels.shape)}, should be"
            " (R, K) and (R,)"
        )
    if quality is not None:
        if quality.shape != labels.shape:
            raise ValueError(
                f"quality is {tuple(quality.shape)}, should be as labels are, {tuple(labels.shape)}"
            )
        quality = quality.detach()
    function = _triton_function(kind, logits.device) if _suits_triton(logits) else None
    return (function or SigmoidLossSum).apply(kind, logits, labels, quality, gamma, *weights)


def _suits_triton(logits: Tensor) -> bool:
    # Kernels read memory: fake tensors, and others that only stand for one, have none.
    is_plain = type(logits) in (Tensor, torch.nn.Parameter)
    is_on_gpu = logits.is_cuda and logits.dtype != torch.float64
    return is_on_gpu and is_plain and not torch.compiler.is_compiling()


@functools.cache
def _triton_function(kind: str, device: torch.device):
    """The loss as kernels of its own; None where Triton or the compiler that it needs is not."""
    try:
        from .kernels import TritonSigmoidLossSum

        probe = torch.zeros(1, 2, device=device, requires_grad=True)
        labels = torch.zeros(1, dtype=torch.int64, device=device)
        quality = None if kind == "focal" else torch.ones(1, device=device)
        TritonSigmoidLossSum.apply(kind, probe, labels, quality, 2.0, 0.25, 0.75).backward()
    except Exception as e:  # whatever a foreign compiler raises
        warnings.warn(f"the {kind} loss goes without Triton, slower: {e}", stacklevel=3)
        return None
    return TritonSigmoidLossSum


class SigmoidLossSum(torch.autograd.Function):
    """The sum with its gradient, which is written in the forward pass.

    It is known in closed form from what the loss needs anyway: one fp32 buffer of (R, K) instead of
    autograd's ten.
    """

    @staticmethod
    def forward(ctx, kind, logits, labels, quality, gamma, pos_weight, neg_weight):
        """The sum, 0-dim; arguments as in :func:`sigmoid_loss_sum`."""
        needs_grad = ctx.needs_input_grad[1]
        grad = torch.empty_like(logits, dtype=_inner_dtype(logits)) if needs_grad else None
        # The compiler fuses what the chunks keep in the cache.
        run = _loss_and_grad if torch.compiler.is_compiling() else _chunked_loss_and_grad
        total = run(kind, logits, labels, quality, grad, (gamma, pos_weight, neg_weight))
        ctx.logits_dtype = logits.dtype
        if grad is not None:
            ctx.save_for_backward(grad)
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_output):
        """The gradient of the logits, (R, K) in their dtype."""
        (grad,) = ctx.saved_tensors
        grad_logits = (grad * grad_output).to(ctx.logits_dtype)
        return None, grad_logits, None, None, None, None, None


def _inner_dtype(logits: Tensor) -> torch.dtype:
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


def _chunked_loss_and_grad(kind, logits, labels, quality, grad, numbers) -> Tensor:
    """:func:`_loss_and_grad` a few rows at a time."""
    chunk = _CUDA_CHUNK if logits.is_cuda else _CPU_CHUNK
    step = max(chunk // max(logits.shape[1], 1), 1)
    total = logits.new_zeros((), dtype=_inner_dtype(logits))
    for i in range(0, len(logits), step):
        rows = slice(i, i + step)
        quality_i = None if quality is None else quality[rows]
        grad_i = None if grad is None else grad[rows]
        total += _loss_and_grad(kind, logits[rows], labels[rows], quality_i, grad_i, numbers)
    return total


def _loss_and_grad(
    kind: str,
    logits: Tensor,
    labels: Tensor,
    quality: Tensor | None,
    grad: Tensor | None,
    numbers: tuple[Number, Number, Number],
) -> Tensor:
    """Loss of ``logits`` (r, K) as a 0-dim tensor; its derivative is written to ``grad`` (r, K)."""
    x, num_classes = logits.to(_inner_dtype(logits)), logits.shape[1]
    gamma, pos_weight, neg_weight = numbers
    own_class = labels.clamp(0, num_classes - 1)[:, None]  # (r, 1)
    is_pos = ((labels >= 0) & (labels < num_classes))[:, None]  # (r, 1)
    is_ignored = (labels < 0)[:, None]  # (r, 1)

    # All classes as negatives, then the own class of a positive is replaced by its own term.
    with_slope = grad is not None
    loss, neg_grad = negative_term(x, gamma, with_slope)
    if quality is not None:
        quality = quality.to(x.dtype)[:, None]  # (r, 1)
    own_logits = x.gather(1, own_class)  # (r, 1)
    pos_loss, pos_grad = _OWN_TERMS[kind](own_logits, quality, gamma, with_slope)
    loss.scatter_(1, own_class, loss.gather(1, own_class).masked_fill_(is_pos, 0))
    if grad is not None:
        # 0 times an overflow is NaN, 0 times its bits is 0; filling is ten times slower on a CPU.
        bits = torch.int64 if neg_grad.dtype == torch.float64 else torch.int32
        neg_grad.view(bits).mul_(~is_ignored)
        torch.mul(neg_grad, neg_weight, out=grad)
        own_grad = torch.where(is_pos, pos_weight * pos_grad, grad.gather(1, own_class))
        grad.scatter_(1, own_class, own_grad)
    neg_sum = loss.sum(dim=1, keepdim=True).masked_fill_(is_ignored, 0).sum()
    pos_sum = torch.where(is_pos, pos_loss, 0.0).sum()
    return neg_weight * neg_sum + pos_weight * pos_sum


def negative_term(x: Tensor, gamma: Number, with_slope: bool):
    """``-p^gamma ln(1 - p)`` and, if asked for, its derivative; both shaped like x.

    The derivative is ``p^gamma (p - gamma (1 - p) ln(1 - p))``.
    """
    softplus = _softplus(x)  # -ln(1 - p)
    log_p = x - softplus
    p = log_p.exp()
    factor = log_p.mul_(gamma).exp_()  # p^gamma
    if not with_slope:
        return factor.mul_(softplus), None
    slope = (1 - p).mul_(softplus).mul_(gamma).add_(p).mul_(factor)
    return factor.mul_(softplus), slope


def _focal_term(x: Tensor, quality: None, gamma: Number, with_slope: bool):
    """``-(1 - p)^gamma ln p``: the negative term with x -> -x."""
    loss, slope = negative_term(-x, gamma, with_slope)
    return loss, None if slope is None else -slope


def _quality_focal_term(x: Tensor, quality: Tensor, gamma: Number, with_slope: bool):
    """``|q - p|^gamma bce(p, q)`` and its derivative."""
    bce, error, variance = _soft_bce(x, quality)
    # Where p meets q exactly, an exponent below 1 has no derivative; 0 is taken.
    distance = error.abs().clamp(min=torch.finfo(error.dtype).tiny)
    factor = distance**gamma
    if not with_slope:
        return factor * bce, None
    slope = gamma * error.sign() * (factor / distance) * variance * bce + factor * error
    return factor * bce, slope


def _varifocal_term(x: Tensor, quality: Tensor, gamma: Number, with_slope: bool):
    """``q bce(p, q)`` and its derivative."""
    bce, error, _ = _soft_bce(x, quality)
    return quality * bce, quality * error


def _soft_bce(x: Tensor, quality: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``-(1 - q) ln(1 - p) - q ln p``, its derivative ``p - q``, and ``p (1 - p)``.

    Nothing cancels at large logits: both logarithms and both probabilities are exact there.
    """
    neg_log_not_p, neg_log_p = _softplus(x), _softplus(-x)
    not_p, p = (-neg_log_not_p).exp(), (-neg_log_p).exp()
    not_quality = 1 - quality
    return (
        not_quality * neg_log_not_p + quality * neg_log_p,
        not_quality * p - quality * not_p,
        p * not_p,
    )


# kind -> (logits, quality, gamma, with_slope) -> term and derivative, all of shape (r, 1).
_OWN_TERMS: dict[str, Callable[..., Any]] = {
    "focal": _focal_term,
    "quality_focal": _quality_focal_term,
    "varifocal": _varifocal_term,
}


def _softplus(x: Tensor) -> Tensor:
    """``ln(1 + e^x) = max(x, 0) + ln(1 + u)``, u = e^-|x|: on a CPU 5 times faster than torch's.

    ``ln(1 + u)`` is Kahan's: ln(y) u / (y - 1) for y = 1 + u as it was rounded, and u if that is 1.
    """
    u = x.abs().neg_().exp_()
    y = u + 1
    rounded = y - 1
    log1p = torch.where(rounded == 0, u, y.log_().mul_(u).div_(rounded))
    return log1p.add_(x.clamp(min=0))
