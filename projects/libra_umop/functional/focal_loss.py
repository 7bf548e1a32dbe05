"""Sigmoid focal loss on class indices, with its gradient in closed form.

Letters: R anchors, K classes. Labels: -1 ignore, [0, K) foreground, K background.
"""

import functools
import warnings
from typing import Optional, Union

import torch
from torch import Tensor

__all__ = ["focal_loss_sum"]

# Elements that one step of the eager loop works on. On a CPU its temporaries stay in the cache; on
# a GPU they stay below half a GiB.
_CPU_CHUNK = 1 << 17
_CUDA_CHUNK = 1 << 24


def focal_loss_sum(
    logits: Tensor,
    labels: Tensor,
    *,
    gamma: Union[float, Tensor],
    alpha: Union[float, Tensor],
) -> Tensor:
    """Sigmoid focal loss (RetinaNet, equation 5), summed over anchors and classes.

    ``-alpha (1 - p)^gamma ln p`` for an anchor's own class and ``-(1 - alpha) p^gamma ln(1 - p)``
    for every other class, p = sigmoid(logit). It equals one-hot labels through
    :func:`fvcore.nn.sigmoid_focal_loss` with ``reduction="sum"``, but labels stay indices, and the
    exact gradient is computed along with the loss. Finite wherever the logits are; fp32 inside for
    half-precision logits, also under autocast. Differentiable once, with respect to ``logits``.

    Args:
        logits: (R, K), floating point.
        labels: (R,) int64 in {-1} + [0, K]; rows of -1 contribute nothing, K is background.
        gamma: focusing exponent >= 0, a float or a 0-dim tensor.
        alpha: weight of the positives in [0, 1], a float or a 0-dim tensor; a negative float
            weights both kinds by 1.

    Returns:
        0-dim tensor, fp32 (fp64 for fp64 logits). Zero with a live gradient if R is 0.

    Raises:
        ValueError: if the shapes of ``logits`` and ``labels`` do not fit.
    """
    if logits.dim() != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(
            "logits must be (R, K) and labels (R,), "
            f"got {tuple(logits.shape)} and {tuple(labels.shape)}"
        )
    function = _triton_function(logits.device) if _suits_triton(logits) else None
    return (function or _FocalLossSum).apply(logits, labels, gamma, alpha)


def _suits_triton(logits: Tensor) -> bool:
    # Kernels read memory: fake tensors, and others that only stand for one, have none.
    is_plain = type(logits) in (Tensor, torch.nn.Parameter)
    is_on_gpu = logits.is_cuda and logits.dtype != torch.float64
    return is_on_gpu and is_plain and not torch.compiler.is_compiling()


@functools.lru_cache(maxsize=None)
def _triton_function(device: torch.device):
    """The loss as kernels of its own; None where Triton or the compiler that it needs is not."""
    try:
        from .focal_loss_kernels import TritonFocalLossSum

        probe = torch.zeros(1, 2, device=device, requires_grad=True)
        labels = torch.zeros(1, dtype=torch.int64, device=device)
        TritonFocalLossSum.apply(probe, labels, 2.0, 0.25).backward()
    except Exception as e:  # whatever a foreign compiler raises
        warnings.warn(f"the focal loss goes without Triton, slower: {e}", stacklevel=3)
        return None
    return TritonFocalLossSum


class _FocalLossSum(torch.autograd.Function):
    """The gradient is known in closed form from what the loss needs anyway, so it is written in
    the forward pass: one fp32 buffer of (R, K) instead of autograd's ten."""

    @staticmethod
    def forward(ctx, logits, labels, gamma, alpha):
        dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
        grad = torch.empty_like(logits, dtype=dtype) if ctx.needs_input_grad[0] else None
        if torch.compiler.is_compiling():  # the compiler fuses what the chunks keep in the cache
            total = _loss_and_grad(logits.to(dtype), labels, gamma, alpha, grad)
        else:
            total = _chunked_loss_and_grad(logits, labels, gamma, alpha, grad, dtype)
        ctx.logits_dtype = logits.dtype
        if grad is not None:
            ctx.save_for_backward(grad)
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_output):
        (grad,) = ctx.saved_tensors
        return (grad * grad_output).to(ctx.logits_dtype), None, None, None


def _chunked_loss_and_grad(logits, labels, gamma, alpha, grad, dtype) -> Tensor:
    """:func:`_loss_and_grad` a few rows at a time."""
    chunk = _CUDA_CHUNK if logits.is_cuda else _CPU_CHUNK
    step = max(chunk // max(logits.shape[1], 1), 1)
    total = logits.new_zeros((), dtype=dtype)
    for i in range(0, len(logits), step):
        rows = slice(i, i + step)
        grad_i = None if grad is None else grad[rows]
        total += _loss_and_grad(logits[rows].to(dtype), labels[rows], gamma, alpha, grad_i)
    return total


def _loss_and_grad(
    x: Tensor,
    labels: Tensor,
    gamma: Union[float, Tensor],
    alpha: Union[float, Tensor],
    grad: Optional[Tensor],
) -> Tensor:
    """Loss of ``x`` (r, K) as a 0-dim tensor; its derivative is written to ``grad`` (r, K)."""
    num_classes = x.shape[1]
    pos_weight, neg_weight = (alpha, 1 - alpha)
    if isinstance(alpha, (int, float)) and alpha < 0:
        pos_weight = neg_weight = 1.0
    own_class = labels.clamp(0, num_classes - 1)[:, None]  # (r, 1)
    is_pos = ((labels >= 0) & (labels < num_classes))[:, None]  # (r, 1)
    is_ignored = (labels < 0)[:, None]  # (r, 1)

    # All classes as negatives: p^gamma softplus(x), derivative p^gamma (gamma (1-p) softplus + p).
    loss, neg_grad = _negative_term(x, gamma, grad)
    # The own class of a positive is replaced by the positive term, the same with x -> -x.
    pos_loss, pos_grad = _negative_term(-x.gather(1, own_class), gamma, grad)
    loss.scatter_(1, own_class, loss.gather(1, own_class).masked_fill_(is_pos, 0))
    if grad is not None:
        # 0 times an overflow is NaN, 0 times its bits is 0; filling is ten times slower on a CPU.
        bits = torch.int64 if neg_grad.dtype == torch.float64 else torch.int32
        neg_grad.view(bits).mul_(~is_ignored)
        torch.mul(neg_grad, neg_weight, out=grad)
        own_grad = torch.where(is_pos, -pos_weight * pos_grad, grad.gather(1, own_class))
        grad.scatter_(1, own_class, own_grad)
    neg_sum = loss.sum(dim=1, keepdim=True).masked_fill_(is_ignored, 0).sum()
    pos_sum = torch.where(is_pos, pos_loss, 0.0).sum()
    return neg_weight * neg_sum + pos_weight * pos_sum


def _negative_term(x: Tensor, gamma: Union[float, Tensor], grad: Optional[Tensor]):
    """``-p^gamma ln(1 - p)`` and, unless ``grad`` is None, its derivative; both shaped like x."""
    softplus = _softplus(x)  # -ln(1 - p)
    log_p = x - softplus
    p = log_p.exp()
    factor = log_p.mul_(gamma).exp_()  # p^gamma
    if grad is None:
        return factor.mul_(softplus), None
    slope = (1 - p).mul_(softplus).mul_(gamma).add_(p).mul_(factor)
    return factor.mul_(softplus), slope


def _softplus(x: Tensor) -> Tensor:
    """``ln(1 + e^x) = max(x, 0) + ln(1 + u)``, u = e^-|x|: on a CPU 5 times faster than torch's.

    ``ln(1 + u)`` is Kahan's: ln(y) u / (y - 1) for y = 1 + u as it was rounded, and u if that is 1.
    """
    u = x.abs().neg_().exp_()
    y = u + 1
    rounded = y - 1
    log1p = torch.where(rounded == 0, u, y.log_().mul_(u).div_(rounded))
    return log1p.add_(x.clamp(min=0))
