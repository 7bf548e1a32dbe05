"""Deformable convolutions on torchvision's operator, so that none has to be compiled.

Deformable ConvNets (Dai et al., ICCV 2017, arXiv 1703.06211, eq. 2) and their modulated second
version (Zhu et al., CVPR 2019, arXiv 1811.11168, eq. 1): y(p) = sum_k w_k x(p + p_k + dp_k) m_k,
with the offsets dp_k in feature pixels and the modulation m_k in (0, 1) predicted by a 3x3
convolution of x.

That convolution starts at zero: all dp_k are 0 and all m_k 0.5, so a new modulated layer is one
half of the plain convolution whose weight it holds, and a new unmodulated one equals it.

Letters: N images, C channels, G offset groups, K = kernel height * kernel width.
"""

from typing import Any, TypeVar

import torch
from detectron2.layers import Conv2d, ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.backbone.resnet import BottleneckBlock, ResNet, build_resnet_backbone
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import deform_conv2d

__all__ = [
    "DeformBottleneckBlock",
    "DeformConv2d",
    "SelfOffsetDeformConv2d",
    "build_deform_resnet_backbone",
    "offset_channels",
    "split_offsets",
]

RESNET_STAGES = ("res2", "res3", "res4", "res5")


def offset_channels(*, kernel_area: int, offset_groups: int, modulated: bool) -> int:
    """Channels that the offset convolution has: x and y, and m if modulated, of every sample."""
    return (3 if modulated else 2) * kernel_area * offset_groups


def split_offsets(prediction: Tensor, modulated: bool) -> tuple[Tensor, Tensor | None]:
    """Offsets and modulation out of what the offset convolution predicts.

    Args:
        prediction: (N, 3GK, H, W) if ``modulated``, else (N, 2GK, H, W).

    Returns:
        offsets (N, 2GK, H, W) in feature pixels, y before x for each sample; and the modulation
        (N, GK, H, W) in (0, 1), or None.
    """
    if not modulated:
        return prediction, None
    num_samples = prediction.shape[1] // 3
    offsets, logits = prediction.split([2 * num_samples, num_samples], dim=1)
    return offsets, logits.sigmoid()


_Made = TypeVar("_Made", bound="DeformConv2d")


class DeformConv2d(nn.Module):
    """A convolution that samples its input at given offsets, weighted by a given modulation.

    Same parameter names as Detectron2's ``DeformConv`` and ``ModulatedDeformConv``: ``weight``,
    ``norm``.
    It computes half precision in float32, as there a position of 200 pixels is only known to 1/8.
    Runs on CPU and CUDA, forward and backward.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, ...] = (3, 3),
        stride: tuple[int, ...] = (1, 1),
        padding: tuple[int, ...] = (1, 1),
        dilation: tuple[int, ...] = (1, 1),
        groups: int = 1,
        bias: bool = False,
        norm: nn.Module | None = None,
    ):
        super().__init__()
        self.kernel_size, self.stride = kernel_size, stride
        self.padding, self.dilation, self.groups = padding, dilation, groups
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels // groups, *kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.norm = norm
        nn.init.kaiming_uniform_(self.weight, nonlinearity="relu")

    @classmethod
    def from_conv(cls: type[_Made], conv: nn.Conv2d) -> _Made:
        """A deformable convolution of the geometry of ``conv`` that takes over its weight and norm.

        Raises:
            ValueError: if ``conv`` pads by a named rule or not with zeros.
        """
        if isinstance(conv.padding, str) or conv.padding_mode != "zeros":
            raise ValueError(
                f"padding is of {conv}, should be with zeros and by numbers to be made deformable"
            )
        new = cls(
            in_channels=conv.in_channels,
            out_channels=conv.out_channels,
            kernel_size=conv.kernel_size,
            stride=conv.stride,
            padding=conv.padding,
            dilation=conv.dilation,
            groups=conv.groups,
            bias=conv.bias is not None,
            norm=getattr(conv, "norm", None),
        )
        new.weight = conv.get_parameter("weight")
        if conv.bias is not None:
            new.bias = conv.get_parameter("bias")
        return new

    def forward(self, x: Tensor, offsets: Tensor, modulation: Tensor | None = None) -> Tensor:
        """Convolve at the places that the offsets name.

        Args:
            x: (N, C_in, H, W), any floating dtype.
            offsets: (N, 2GK, H_out, W_out), feature pixels, y before x.
            modulation: (N, GK, H_out, W_out) in (0, 1), or None for all ones.

        Returns:
            (N, C_out, H_out, W_out) in the dtype of ``x``; for N = 0 an empty tensor of that shape.
        """
        if x.numel() == 0:
            geometry = (self.stride, self.padding, self.dilation, self.groups)
            out = F.conv2d(x, self.weight.to(x.dtype), None, *geometry)
        else:
            out = self._sample_and_convolve(x, offsets, modulation)
        return out if self.norm is None else self.norm(out)

    def _sample_and_convolve(self, x: Tensor, offsets: Tensor, modulation: Tensor | None) -> Tensor:
        dtype = torch.promote_types(x.dtype, torch.float32)
        with torch.autocast(device_type=x.device.type, enabled=False):
            out = deform_conv2d(
                x.to(dtype),
                offsets.to(dtype),
                self.weight.to(dtype),
                bias=None if self.bias is None else self.bias.to(dtype),
                stride=self.stride,
                padding=self.padding,
                dilation=self.dilation,
                mask=None if modulation is None else modulation.to(dtype),
            )
        return out.to(x.dtype)

    def extra_repr(self) -> str:
        """What is printed of it, in the words of :class:`torch.nn.Conv2d`."""
        out_channels, in_channels = self.weight.shape[0], self.weight.shape[1] * self.groups
        return (
            f"{in_channels}, {out_channels}, kernel_size={self.kernel_size}, stride={self.stride},"
            f" padding={self.padding}, dilation={self.dilation}, groups={self.groups}"
        )


def _build_offset_conv(conv: DeformConv2d, offset_groups: int, modulated: bool) -> nn.Conv2d:
    """The convolution that predicts the offsets of ``conv`` from the same input; starts at zero."""
    num_channels = offset_channels(
        kernel_area=conv.kernel_size[0] * conv.kernel_size[1],
        offset_groups=offset_groups,
        modulated=modulated,
    )
    offset_conv = Conv2d(
        conv.weight.shape[1] * conv.groups,
        num_channels,
        kernel_size=conv.kernel_size,
        stride=conv.stride,
        padding=conv.padding,
        dilation=conv.dilation,
    )
    nn.init.zeros_(offset_conv.weight)
    nn.init.zeros_(offset_conv.bias)
    return offset_conv


class SelfOffsetDeformConv2d(DeformConv2d):
    """A deformable convolution that predicts its own offsets, to stand where a plain one stood.

    For networks whose forward cannot be changed. Its offset convolution is ``conv_offset``, the
    name that mmcv's ``ModulatedDeformConv2dPack`` gives it.
    """

    conv_offset: nn.Module
    modulated: bool

    @classmethod
    def from_conv(
        cls, conv: nn.Conv2d, *, offset_groups: int = 1, modulated: bool = True
    ) -> "SelfOffsetDeformConv2d":
        """Same interface as :meth:`DeformConv2d.from_conv`; the offsets start at zero."""
        new = super().from_conv(conv)
        new.modulated = modulated
        new.conv_offset = _build_offset_conv(new, offset_groups, modulated)
        return new

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]  # stands for a plain one
        """(N, C_in, H, W) to (N, C_out, H_out, W_out)."""
        return super().forward(x, *split_offsets(self.conv_offset(x), self.modulated))


class DeformBottleneckBlock(BottleneckBlock):
    """A bottleneck block whose 3x3 convolution is deformable.

    Same parameter names as Detectron2's block of this name (``conv2_offset``, ``conv2``), so
    weights trained with either load into the other.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        deform_modulated: bool = True,
        deform_num_groups: int = 1,
        **kwargs,
    ):
        super().__init__(in_channels, out_channels, **kwargs)
        self.deform_modulated = deform_modulated
        plain: Any = self.get_submodule("conv2")
        conv2 = DeformConv2d.from_conv(plain)
        self.add_module("conv2", conv2)
        self.conv2_offset = _build_offset_conv(conv2, deform_num_groups, deform_modulated)

    def forward(self, x: Tensor) -> Tensor:
        """Same interface as :meth:`BottleneckBlock.forward`; the 3x3 convolution is deformable."""
        out = F.relu_(self.conv1(x))
        offsets, modulation = split_offsets(self.conv2_offset(out), self.deform_modulated)
        out = F.relu_(self.conv2(out, offsets, modulation))
        out = self.conv3(out)
        out += x if self.shortcut is None else self.shortcut(x)
        return F.relu_(out)


@BACKBONE_REGISTRY.register()
def build_deform_resnet_backbone(cfg, input_shape: ShapeSpec) -> ResNet:
    """Detectron2's ResNet from the same keys, with torchvision's deformable convolutions.

    Stage ``i`` of ``MODEL.RESNETS.DEFORM_ON_PER_STAGE`` (res2 .. res5) becomes deformable,
    modulated if ``DEFORM_MODULATED``. With no stage chosen this is ``build_resnet_backbone``.

    Raises:
        ValueError: if a stage of ResNet-18 or 34 is chosen, which have no bottleneck.
    """
    keys = cfg.MODEL.RESNETS
    chosen = [name for name, on in zip(RESNET_STAGES, keys.DEFORM_ON_PER_STAGE, strict=True) if on]
    if chosen and keys.DEPTH in (18, 34):
        raise ValueError(
            f"MODEL.RESNETS.DEFORM_ON_PER_STAGE chooses {chosen}, but the blocks of"
            f" MODEL.RESNETS.DEPTH {keys.DEPTH} cannot be deformable: use 50, 101 or 152"
        )
    plain_cfg = cfg.clone()
    plain_cfg.defrost()
    plain_cfg.MODEL.RESNETS.DEFORM_ON_PER_STAGE = [False] * len(RESNET_STAGES)
    resnet = build_resnet_backbone(plain_cfg, input_shape)
    for name in set(chosen) & set(resnet.stage_names):
        stage = getattr(resnet, name)
        for i, block in enumerate(stage):
            stage[i] = _deformed(block, keys)
    return resnet.freeze(cfg.MODEL.BACKBONE.FREEZE_AT)


def _deformed(block: BottleneckBlock, keys) -> DeformBottleneckBlock:
    """The deformable block of the geometry of ``block``; ``keys`` is ``cfg.MODEL.RESNETS``."""
    return DeformBottleneckBlock(
        block.in_channels,
        block.out_channels,
        bottleneck_channels=block.conv2.out_channels,
        stride=block.stride,
        num_groups=block.conv2.groups,
        norm=keys.NORM,
        stride_in_1x1=keys.STRIDE_IN_1X1,
        dilation=block.conv2.dilation[0],
        deform_modulated=keys.DEFORM_MODULATED,
        deform_num_groups=keys.DEFORM_NUM_GROUPS,
    )
