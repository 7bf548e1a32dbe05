"""The sums of ``sums.py`` as two Triton kernels, which cost little more than reading the logits.

Letters: R anchors, K classes. Labels: -1 ignore, [0, K) foreground, K background.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["TritonSigmoidLossSum"]

_BLOCK = 1024  # elements of one program


class TritonSigmoidLossSum(torch.autograd.Function):
    """:class:`SigmoidLossSum` of half precision or fp32 logits on a GPU.

    The forward pass reads the logits and the backward pass reads them again and writes the
    gradient, computed in fp32 in between: nothing of (R, K) is kept beside the logits.
    """

    @staticmethod
    def forward(
        ctx,
        kind: str,
        logits: Tensor,
        labels: Tensor,
        quality: Tensor | None,
        gamma,
        pos_weight,
        neg_weight,
    ) -> Tensor:
        """Same interface as :meth:`SigmoidLossSum.forward`; keeps the logits, no gradient."""
        logits, labels = logits.contiguous(), labels.contiguous()
        quality = None if quality is None else quality.contiguous()
        numbers = _numbers((gamma, pos_weight, neg_weight), logits.device)
        num_programs = triton.cdiv(logits.numel(), _BLOCK)
        sums = torch.empty(num_programs, dtype=torch.float32, device=logits.device)
        if num_programs:
            arguments = (logits, labels, quality, numbers, sums, logits.numel())
            constants = {"KIND": kind, "K": logits.shape[1], "BLOCK": _BLOCK}
            with torch.cuda.device_of(logits):  # Triton starts kernels on the current one
                _loss_kernel[(num_programs,)](*arguments, **constants)
        ctx.kind = kind
        ctx.save_for_backward(logits, labels, quality, numbers)
        return sums.sum()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_output: Tensor):
        """The gradient of the logits, (R, K) in their dtype, computed from them anew."""
        logits, *others = ctx.saved_tensors
        grad = torch.empty_like(logits)
        num_programs = triton.cdiv(logits.numel(), _BLOCK)
        if num_programs:
            arguments = (logits, *others, grad_output.contiguous(), grad, logits.numel())
            constants = {"KIND": ctx.kind, "K": logits.shape[1], "BLOCK": _BLOCK}
            with torch.cuda.device_of(logits):
                _grad_kernel[(num_programs,)](*arguments, **constants)
        return None, grad, None, None, None, None, None


def _numbers(values: tuple[float | Tensor, ...], device: torch.device) -> Tensor:
    """(3,) fp32 on ``device``: gamma, the positives' and the negatives' weight, without waiting."""
    tensors = [
        x.to(device, torch.float32) if isinstance(x, Tensor) else torch.full((), x, device=device)
        for x in values
    ]
    return torch.stack(tensors)


@triton.jit
def _log1p_exp(x):
    """``ln(1 + u)``, u = e^-|x|, which is softplus without its ``max(x, 0)``.

    Kahan's form, exact for a small u.
    """
    u = tl.exp(-tl.abs(x))
    y = 1.0 + u
    rounded = y - 1.0
    return tl.where(rounded == 0.0, u, tl.log(y) * (u / tl.where(rounded == 0.0, 1.0, rounded)))


@triton.jit
def _negative_term(x, gamma):
    """``-p^gamma ln(1 - p)`` and its derivative."""
    softplus = tl.maximum(x, 0.0) + _log1p_exp(x)  # -ln(1 - p)
    log_p = x - softplus
    p = tl.exp(log_p)
    factor = tl.exp(gamma * log_p)
    return factor * softplus, factor * (gamma * (1.0 - p) * softplus + p)


@triton.jit
def _own_term(x, quality, gamma, KIND: tl.constexpr):
    """The term of a positive's own class and its derivative, see ``sums.py``."""
    log1p = _log1p_exp(x)
    neg_log_not_p = tl.maximum(x, 0.0) + log1p
    neg_log_p = tl.maximum(-x, 0.0) + log1p
    not_p = tl.exp(-neg_log_not_p)
    p = tl.exp(-neg_log_p)
    bce = (1.0 - quality) * neg_log_not_p + quality * neg_log_p
    error = (1.0 - quality) * p - quality * not_p
    if KIND == "varifocal":
        loss = quality * bce
        slope = quality * error
    else:
        distance = tl.maximum(tl.abs(error), 1.2e-38)
        factor = tl.exp(gamma * tl.log(distance))
        sign = tl.where(error > 0.0, 1.0, tl.where(error < 0.0, -1.0, 0.0))
        loss = factor * bce
        slope = gamma * sign * (factor / distance) * p * not_p * bce + factor * error
    return loss, slope


@triton.jit
def _loss_and_slope(
    x_ptr,
    labels_ptr,
    quality_ptr,
    numbers_ptr,
    numel,
    KIND: tl.constexpr,
    K: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """A block's offsets, which of them are inside, which count, and their terms and derivatives."""
    start = tl.program_id(0).to(tl.int64) * BLOCK
    offsets = start + tl.arange(0, BLOCK)
    inside = offsets < numel
    x = tl.load(x_ptr + offsets, mask=inside, other=0.0).to(tl.float32)
    rows = offsets // K
    label = tl.load(labels_ptr + rows, mask=inside, other=-1)
    own = label == offsets - rows * K
    gamma = tl.load(numbers_ptr)
    weight = tl.where(own, tl.load(numbers_ptr + 1), tl.load(numbers_ptr + 2))
    if KIND == "focal":  # the own class is a negative of the logit -x
        sign = tl.where(own, -1.0, 1.0)
        loss, slope = _negative_term(x * sign, gamma)
        slope = sign * slope
    else:
        loss, slope = _negative_term(x, gamma)
        if tl.max(own.to(tl.int32), axis=0) > 0:  # few blocks have a positive's own class
            quality = tl.load(quality_ptr + rows, mask=own, other=0.0).to(tl.float32)
            own_loss, own_slope = _own_term(x, quality, gamma, KIND)
            loss = tl.where(own, own_loss, loss)
            slope = tl.where(own, own_slope, slope)
    return offsets, inside, label >= 0, weight * loss, weight * slope


@triton.jit
def _loss_kernel(
    x_ptr,
    labels_ptr,
    quality_ptr,
    numbers_ptr,
    sums_ptr,
    numel,
    KIND: tl.constexpr,
    K: tl.constexpr,
    BLOCK: tl.constexpr,
):
    offsets, inside, counts, loss, slope = _loss_and_slope(
        x_ptr, labels_ptr, quality_ptr, numbers_ptr, numel, KIND, K, BLOCK
    )
    tl.store(sums_ptr + tl.program_id(0), tl.sum(tl.where(counts, loss, 0.0), axis=0))


@triton.jit
def _grad_kernel(
    x_ptr,
    labels_ptr,
    quality_ptr,
    numbers_ptr,
    grad_output_ptr,
    grad_ptr,
    numel,
    KIND: tl.constexpr,
    K: tl.constexpr,
    BLOCK: tl.constexpr,
):
    offsets, inside, counts, loss, slope = _loss_and_slope(
        x_ptr, labels_ptr, quality_ptr, numbers_ptr, numel, KIND, K, BLOCK
    )
    grad = tl.where(counts, tl.load(grad_output_ptr).to(tl.float32) * slope, 0.0)
    tl.store(grad_ptr + offsets, grad.to(grad_ptr.dtype.element_ty), mask=inside)
