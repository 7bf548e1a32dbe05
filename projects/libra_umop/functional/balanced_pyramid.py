"""Balanced feature pyramid, BFP (Libra R-CNN, https://arxiv.org/abs/1904.02701, section 3.2).

Axes: N images, C channels, H and W of a level. Levels are listed from the finest to the coarsest.
"""

import torch
import torch.nn.functional as F
from torch import nn

REFINE_TYPES = ("non_local", "conv", "none")
ATTENTION_PRECISIONS = ("float32", "autocast")


def gather_levels(features: list[torch.Tensor], level: int) -> torch.Tensor:
    """Average a pyramid at the size of one of its levels (equation 4): C = 1/L * sum C_l.

    Args:
        features: the L levels, each (N, C, H_l, W_l), finest first.
        level: index of the one whose size the others are brought to: the finer by max pooling,
            the coarser by nearest interpolation.

    Returns:
        The balanced semantic features, (N, C, H_level, W_level).

    Examples:
        >>> levels = [torch.full((1, 1, 4, 4), 3.0), torch.full((1, 1, 2, 2), 5.0)]
        >>> gather_levels(levels, 1)  # at the size of the second: (3 + 5) / 2
        tensor([[[[4., 4.],
                  [4., 4.]]]])
    """
    size = features[level].shape[-2:]
    # mean, unlike a sum that is divided later, cannot overflow in half precision
    return torch.stack([_resize(x, size) for x in features]).mean(dim=0)


def scatter_levels(refined: torch.Tensor, features: list[torch.Tensor]) -> list[torch.Tensor]:
    """Bring refined features back to the size of each level, and add them to it.

    Args:
        refined: (N, C, H, W), what :func:`gather_levels` gave, refined.
        features: the levels, each (N, C, H_l, W_l).

    Returns:
        The strengthened levels, of the same shapes as ``features``.

    Examples:
        >>> levels = [torch.zeros(1, 8, 4, 4), torch.zeros(1, 8, 2, 2)]
        >>> [tuple(x.shape) for x in scatter_levels(torch.ones(1, 8, 2, 2), levels)]
        [(1, 8, 4, 4), (1, 8, 2, 2)]
    """
    return [_add_resized(x, refined) for x in features]


def _add_resized(x: torch.Tensor, refined: torch.Tensor) -> torch.Tensor:
    resized = _resize(refined, x.shape[-2:])
    if resized is refined or resized.dtype != x.dtype:
        return x + resized
    # In place: at stride 4 of a large image, one more buffer costs a CPU more than the addition.
    return resized.add_(x)


def _resize(x: torch.Tensor, size: torch.Size) -> torch.Tensor:
    """Max pooling to a smaller ``size``, nearest interpolation to a larger one."""
    if x.shape[-2:] == size:
        return x
    if x.shape[-2] >= size[0] and x.shape[-1] >= size[1]:
        return _max_pool(x, size)
    return F.interpolate(x, size=size, mode="nearest")


def _max_pool(x: torch.Tensor, size: torch.Size) -> torch.Tensor:
    if x.requires_grad and torch.is_grad_enabled() and not torch.jit.is_tracing():
        return _LeanMaxPool.apply(x, size)
    return F.adaptive_max_pool2d(x, size)


class _LeanMaxPool(torch.autograd.Function):
    """``F.adaptive_max_pool2d`` that does not keep its input.

    PyTorch's keeps it for its shape alone. It is the pyramid as it was before balancing, which
    nobody needs any more: at stride 4 of 2 x 800x1333 it takes 137 MiB up to the backward pass.
    """

    @staticmethod
    def forward(ctx, x, size):
        pooled, idxs = F.adaptive_max_pool2d(x, size, return_indices=True)
        ctx.save_for_backward(idxs.int())  # of a plane, so that 32 bits are plenty
        ctx.shape = x.shape
        is_last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
        ctx.memory_format = torch.channels_last if is_last else torch.contiguous_format
        return pooled

    @staticmethod
    def backward(ctx, grad):
        (idxs,) = ctx.saved_tensors
        # Its shape and layout are read, its values are not.
        like = torch.empty(
            ctx.shape, dtype=grad.dtype, device=grad.device, memory_format=ctx.memory_format
        )
        return torch.ops.aten.adaptive_max_pool2d_backward(grad, like, idxs.long()), None


class NonLocalRefinement(nn.Module):
    """Embedded-Gaussian non-local block (Wang et al., CVPR 2018) at full channel width.

    x + out(softmax(theta(x)^T phi(x)) g(x)), the softmax over all positions and without the
    1/sqrt(C) of transformers. ``out`` starts at zero, and the block thus as the identity.

    Args:
        channels: C.
        precision: what it computes in under autocast, one of ``ATTENTION_PRECISIONS``. Outside
            autocast it is that of the weights.

    Raises:
        ValueError: ``precision`` is none of these.

    Examples:
        >>> x = torch.rand(1, 8, 4, 4)
        >>> torch.equal(NonLocalRefinement(8)(x), x)
        True
    """

    def __init__(self, channels: int, *, precision: str = "float32"):
        super().__init__()
        if precision not in ATTENTION_PRECISIONS:
            raise ValueError(f"precision is {precision!r}, should be one of {ATTENTION_PRECISIONS}")
        self.precision = precision
        self.theta = nn.Conv2d(channels, channels, 1)
        self.phi = nn.Conv2d(channels, channels, 1)
        self.g = nn.Conv2d(channels, channels, 1)
        self.out = _start_at_zero(nn.Conv2d(channels, channels, 1))
        for conv in (self.theta, self.phi, self.g):
            nn.init.normal_(conv.weight, std=0.01)
            nn.init.zeros_(conv.get_parameter("bias"))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Features (N, C, H, W) to refined ones of the same shape and dtype."""
        low = self.precision == "autocast" and torch.is_autocast_enabled(x.device.type)
        # By default in float32: the softmax of unscaled products of 256 channels multiplies the
        # rounding of theta and phi by the size of these products.
        with torch.autocast(device_type=x.device.type, enabled=low):
            embedded = x.to(self.theta.weight.dtype).contiguous(memory_format=torch.channels_last)
            theta, phi, g = (
                _to_sequence(conv(embedded), promote=not low)
                for conv in (self.theta, self.phi, self.g)
            )
            # The fused kernel never holds the (HW, HW) matrix, and sums in float32.
            attended = F.scaled_dot_product_attention(theta, phi, g, scale=1.0)  # (N, 1, HW, C)
            attended = attended.transpose(2, 3).reshape(x.shape).to(embedded.dtype)
            return x + self.out(attended).to(x.dtype)


def _to_sequence(x: torch.Tensor, *, promote: bool) -> torch.Tensor:
    """(N, C, H, W) to one attention head, (N, 1, HW, C); ``promote`` half precision to float32.

    Fused kernels want C contiguous, which is free if x is channels-last.
    """
    dtype = torch.promote_types(x.dtype, torch.float32) if promote else x.dtype
    return x.permute(0, 2, 3, 1).flatten(1, 2).unsqueeze(1).to(dtype).contiguous()


class ConvRefinement(nn.Module):
    """x + out(x), ``out`` a 3x3 convolution that starts at zero: the paper's plain alternative.

    Examples:
        >>> x = torch.rand(1, 8, 4, 4)
        >>> torch.equal(ConvRefinement(8)(x), x)
        True
    """

    def __init__(self, channels: int):
        super().__init__()
        self.out = _start_at_zero(nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Features (N, C, H, W) to refined ones of the same shape and dtype."""
        return x + self.out(x)


def _start_at_zero(conv: nn.Conv2d) -> nn.Conv2d:
    for parameter in conv.parameters():
        nn.init.zeros_(parameter)
    return conv


class BalancedFeaturePyramid(nn.Module):
    """Strengthen every level of a pyramid by the same balanced, refined average of them all.

    The levels are averaged at one size, refined there, brought back, and added. Averaging and
    bringing back have no parameters, and the refinement starts as the identity.

    Args:
        channels: C, of every level.
        refine_level: index of the level at whose size the levels are averaged.
        refine_type: "non_local", "conv" or "none".
        precision: of :class:`NonLocalRefinement`.

    Raises:
        ValueError: ``refine_type`` is none of these.

    Examples:
        >>> levels = [torch.rand(2, 8, side, side) for side in (16, 8, 4)]
        >>> balanced = BalancedFeaturePyramid(8, refine_level=1)(levels)
        >>> [tuple(x.shape) for x in balanced]
        [(2, 8, 16, 16), (2, 8, 8, 8), (2, 8, 4, 4)]
    """

    def __init__(
        self,
        channels: int,
        refine_level: int,
        refine_type: str = "non_local",
        *,
        precision: str = "float32",
    ):
        super().__init__()
        self.refine_level = refine_level
        if refine_type == "non_local":
            self.refine: nn.Module = NonLocalRefinement(channels, precision=precision)
        elif refine_type == "conv":
            self.refine = ConvRefinement(channels)
        elif refine_type == "none":
            self.refine = nn.Identity()
        else:
            raise ValueError(f"refine_type is {refine_type!r}, should be one of {REFINE_TYPES}")

    def forward(self, features: list[torch.Tensor]) -> list[torch.Tensor]:
        """Balance a pyramid.

        Args:
            features: the levels, each (N, C, H_l, W_l), finest first.

        Returns:
            The balanced levels, of the same shapes.
        """
        return scatter_levels(self.refine(gather_levels(features, self.refine_level)), features)
