"""The focal loss as two Triton kernels: on a GPU it then costs little more than reading the logits.

Letters: R anchors, K classes. Labels: -1 ignore, [0, K) foreground, K background.
"""

from typing import Union

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["TritonFocalLossSum"]

_BLOCK = 1024  # elements of one program


class TritonFocalLossSum(torch.autograd.Function):
    """:func:`focal_loss_sum` of half precision or fp32 logits on a GPU.

    The forward pass reads the logits and the backward pass reads them again and writes the
    gradient, computed in fp32 in between: nothing of (R, K) is kept beside the logits.
    """

    @staticmethod
    def forward(ctx, logits: Tensor, labels: Tensor, gamma, alpha) -> Tensor:
        logits, labels = logits.contiguous(), labels.contiguous()
        numbers = _numbers(gamma, alpha, logits.device)
        num_programs = triton.cdiv(logits.numel(), _BLOCK)
        sums = torch.empty(num_programs, dtype=torch.float32, device=logits.device)
        if num_programs:
            arguments = (logits, labels, numbers, sums, logits.numel())
            with torch.cuda.device_of(logits):  # Triton starts kernels on the current one
                _loss_kernel[(num_programs,)](*arguments, K=logits.shape[1], BLOCK=_BLOCK)
        ctx.save_for_backward(logits, labels, numbers)
        return sums.sum()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_output: Tensor):
        logits, labels, numbers = ctx.saved_tensors
        grad = torch.empty_like(logits)
        num_programs = triton.cdiv(logits.numel(), _BLOCK)
        if num_programs:
            arguments = (logits, labels, numbers, grad_output.contiguous(), grad, logits.numel())
            with torch.cuda.device_of(logits):
                _grad_kernel[(num_programs,)](*arguments, K=logits.shape[1], BLOCK=_BLOCK)
        return grad, None, None, None


def _numbers(
    gamma: Union[float, Tensor], alpha: Union[float, Tensor], device: torch.device
) -> Tensor:
    """(3,) fp32 on ``device``: gamma, the positives' and the negatives' weight, without waiting."""
    off = isinstance(alpha, (int, float)) and alpha < 0
    weights = (1.0, 1.0) if off else (alpha, 1 - alpha)
    values = [
        x.to(device, torch.float32) if isinstance(x, Tensor) else torch.full((), x, device=device)
        for x in (gamma, *weights)
    ]
    return torch.stack(values)


@triton.jit
def _load(x_ptr, labels_ptr, numbers_ptr, numel, K: tl.constexpr, BLOCK: tl.constexpr):
    """A block's elements as negatives' logits, their weight, sign and whether they count.

    A positive's own class is a negative of the logit -x; its derivative has the other sign.
    """
    start = tl.program_id(0).to(tl.int64) * BLOCK
    offsets = start + tl.arange(0, BLOCK)
    inside = offsets < numel
    x = tl.load(x_ptr + offsets, mask=inside, other=0.0).to(tl.float32)
    rows = offsets // K
    label = tl.load(labels_ptr + rows, mask=inside, other=-1)
    own = label == offsets - rows * K
    gamma = tl.load(numbers_ptr)
    weight = tl.where(own, tl.load(numbers_ptr + 1), tl.load(numbers_ptr + 2))
    sign = tl.where(own, -1.0, 1.0)
    return offsets, inside, x * sign, weight, sign, label >= 0, gamma


@triton.jit
def _softplus(x):
    """``max(x, 0) + ln(1 + u)``, u = e^-|x|; ``ln(1 + u)`` is Kahan's, exact for a small u."""
    u = tl.exp(-tl.abs(x))
    y = 1.0 + u
    rounded = y - 1.0
    log1p = tl.where(rounded == 0.0, u, tl.log(y) * (u / tl.where(rounded == 0.0, 1.0, rounded)))
    return tl.maximum(x, 0.0) + log1p


@triton.jit
def _loss_kernel(
    x_ptr, labels_ptr, numbers_ptr, sums_ptr, numel, K: tl.constexpr, BLOCK: tl.constexpr
):
    offsets, inside, x, weight, sign, counts, gamma = _load(
        x_ptr, labels_ptr, numbers_ptr, numel, K, BLOCK
    )
    softplus = _softplus(x)  # -ln(1 - p)
    loss = weight * tl.exp(gamma * (x - softplus)) * softplus
    tl.store(sums_ptr + tl.program_id(0), tl.sum(tl.where(inside & counts, loss, 0.0), axis=0))


@triton.jit
def _grad_kernel(
    x_ptr,
    labels_ptr,
    numbers_ptr,
    grad_output_ptr,
    grad_ptr,
    numel,
    K: tl.constexpr,
    BLOCK: tl.constexpr,
):
    offsets, inside, x, weight, sign, counts, gamma = _load(
        x_ptr, labels_ptr, numbers_ptr, numel, K, BLOCK
    )
    softplus = _softplus(x)
    log_p = x - softplus
    p = tl.exp(log_p)
    slope = tl.exp(gamma * log_p) * (gamma * (1.0 - p) * softplus + p)
    grad = tl.load(grad_output_ptr).to(tl.float32) * sign * weight * slope
    grad = tl.where(counts, grad, 0.0)
    tl.store(grad_ptr + offsets, grad.to(grad_ptr.dtype.element_ty), mask=inside)
