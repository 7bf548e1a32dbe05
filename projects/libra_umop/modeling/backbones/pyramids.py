"""Feature pyramids over any registered bottom-up network.

Detectron2 has a pyramid builder for each bottom-up network. These take the bottom-up network's
registered name from ``MODEL.FPN.BOTTOM_UP``; at their keys' defaults the first two build what
``build_resnet_fpn_backbone`` and ``build_retinanet_resnet_fpn_backbone`` build.
"""

from itertools import pairwise
from typing import TypeVar

from detectron2.layers import Conv2d, ShapeSpec, get_norm
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.backbone import FPN, Backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool, LastLevelP6P7
from fvcore.nn import weight_init
from torch import Tensor, nn

__all__ = [
    "PAFPN",
    "LinearLastLevelP6P7",
    "build_fpn_backbone",
    "build_pafpn_backbone",
    "build_retinanet_fpn_backbone",
    "build_retinanet_pafpn_backbone",
]

P = TypeVar("P", bound=FPN)


class LinearLastLevelP6P7(LastLevelP6P7):
    """P6 and P7 without the ReLU between them, as mmdetection's FPN has it by default.

    The RetinaNet paper (section 3, footnote 2) and Detectron2 put one there.
    """

    def forward(self, c5: Tensor) -> list[Tensor]:
        """Same interface as :meth:`LastLevelP6P7.forward`; P7 sees P6 without a ReLU."""
        p6 = self.p6(c5)
        return [p6, self.p7(p6)]


class PAFPN(FPN):
    """:class:`FPN` with a second path, from the finest level up (PANet, section 3.1).

    Liu et al., CVPR 2018, https://arxiv.org/abs/1803.01534. N_2 = P_2, and level by level
    N_(i+1) = relu(conv(P_(i+1) + relu(conv(N_i)))), 3x3 convolutions of which the inner one has
    stride 2. The top block makes its levels from the N_i, where it is made for a level of the
    pyramid. What FPN has keeps its names, so that its weights load.

    Args:
        out_channels, norm: of all convolutions, as for :class:`FPN`.
        kwargs: of :class:`FPN`.
    """

    def __init__(self, *, out_channels: int, norm: str = "", **kwargs):
        super().__init__(out_channels=out_channels, norm=norm, **kwargs)
        num_extra = 0 if self.top_block is None else self.top_block.num_levels
        self._levels = self._out_features[: len(self._out_features) - num_extra]
        for name in self._levels[1:]:
            self.add_module(f"pafpn_down{name[1:]}", _conv_relu(out_channels, norm, stride=2))
            self.add_module(f"pafpn_output{name[1:]}", _conv_relu(out_channels, norm, stride=1))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Same interface as :meth:`FPN.forward`; of the second path."""
        levels = super().forward(x)
        for finer, name in pairwise(self._levels):
            down = self.get_submodule(f"pafpn_down{name[1:]}")
            output = self.get_submodule(f"pafpn_output{name[1:]}")
            levels[name] = output(levels[name] + down(levels[finer]))
        if self.top_block is not None and self.top_block.in_feature in self._levels:
            # FPN has made them of P_i, which costs little and lets all of its code be used.
            extra = self.top_block(levels[self.top_block.in_feature])
            levels.update(zip(self._out_features[len(self._levels) :], extra, strict=True))
        return levels


def _conv_relu(channels: int, norm: str, *, stride: int) -> Conv2d:
    conv = Conv2d(
        channels,
        channels,
        kernel_size=3,
        stride=stride,
        padding=1,
        bias=norm == "",
        norm=get_norm(norm, channels),
        activation=nn.functional.relu,
    )
    weight_init.c2_xavier_fill(conv)
    return conv


def _build_bottom_up(cfg, input_shape: ShapeSpec) -> Backbone:
    return BACKBONE_REGISTRY.get(cfg.MODEL.FPN.BOTTOM_UP)(cfg, input_shape)


def _build_fpn(cfg, bottom_up: Backbone, top_block, pyramid: type[P]) -> P:
    return pyramid(
        bottom_up=bottom_up,
        in_features=cfg.MODEL.FPN.IN_FEATURES,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=top_block,
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )


@BACKBONE_REGISTRY.register()
def build_fpn_backbone(cfg, input_shape: ShapeSpec) -> FPN:
    """P2..P6 of two-stage detectors, P6 by max pooling, over ``MODEL.FPN.BOTTOM_UP``."""
    return _build_fpn(cfg, _build_bottom_up(cfg, input_shape), LastLevelMaxPool(), FPN)


@BACKBONE_REGISTRY.register()
def build_pafpn_backbone(cfg, input_shape: ShapeSpec) -> PAFPN:
    """The levels of :func:`build_fpn_backbone` as a :class:`PAFPN`."""
    return _build_fpn(cfg, _build_bottom_up(cfg, input_shape), LastLevelMaxPool(), PAFPN)


@BACKBONE_REGISTRY.register()
def build_retinanet_fpn_backbone(cfg, input_shape: ShapeSpec) -> FPN:
    """P3..P7 of dense detectors, P6 and P7 by convolution, over ``MODEL.FPN.BOTTOM_UP``.

    Raises:
        ValueError: if ``MODEL.FPN.TOP_IN_FEATURE`` names no feature that P6 can be made from.
    """
    return _build_p3_to_p7(cfg, input_shape, FPN)


@BACKBONE_REGISTRY.register()
def build_retinanet_pafpn_backbone(cfg, input_shape: ShapeSpec) -> PAFPN:
    """The levels of :func:`build_retinanet_fpn_backbone` as a :class:`PAFPN`."""
    return _build_p3_to_p7(cfg, input_shape, PAFPN)


def _build_p3_to_p7(cfg, input_shape: ShapeSpec, pyramid: type[P]) -> P:
    bottom_up = _build_bottom_up(cfg, input_shape)
    out_channels = cfg.MODEL.FPN.OUT_CHANNELS
    in_channels = {name: shape.channels for name, shape in bottom_up.output_shape().items()}
    in_channels["p5"] = out_channels
    name = cfg.MODEL.FPN.TOP_IN_FEATURE
    if name not in in_channels:
        raise ValueError(
            f"MODEL.FPN.TOP_IN_FEATURE is {name!r}, should be one of {list(in_channels)}"
        )
    top_block_class = LastLevelP6P7 if cfg.MODEL.FPN.P7_RELU else LinearLastLevelP6P7
    top_block = top_block_class(in_channels[name], out_channels, name)
    return _build_fpn(cfg, bottom_up, top_block, pyramid)
