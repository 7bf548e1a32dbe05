"""Feature pyramids over any registered bottom-up network.

Detectron2 has a pyramid builder for each bottom-up network. These two take the bottom-up network's
registered name from ``MODEL.FPN.BOTTOM_UP``; at their keys' defaults they build what
``build_resnet_fpn_backbone`` and ``build_retinanet_resnet_fpn_backbone`` build.
"""

from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.backbone import FPN, Backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool, LastLevelP6P7
from torch import Tensor

__all__ = ["LinearLastLevelP6P7", "build_fpn_backbone", "build_retinanet_fpn_backbone"]


class LinearLastLevelP6P7(LastLevelP6P7):
    """P6 and P7 without the ReLU between them, as mmdetection's FPN has it by default.

    The RetinaNet paper (section 3, footnote 2) and Detectron2 put one there.
    """

    def forward(self, c5: Tensor) -> list[Tensor]:
        """Same interface as :meth:`LastLevelP6P7.forward`; P7 sees P6 without a ReLU."""
        p6 = self.p6(c5)
        return [p6, self.p7(p6)]


def _build_bottom_up(cfg, input_shape: ShapeSpec) -> Backbone:
    return BACKBONE_REGISTRY.get(cfg.MODEL.FPN.BOTTOM_UP)(cfg, input_shape)


def _build_fpn(cfg, bottom_up: Backbone, top_block) -> FPN:
    return FPN(
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
    return _build_fpn(cfg, _build_bottom_up(cfg, input_shape), LastLevelMaxPool())


@BACKBONE_REGISTRY.register()
def build_retinanet_fpn_backbone(cfg, input_shape: ShapeSpec) -> FPN:
    """P3..P7 of dense detectors, P6 and P7 by convolution, over ``MODEL.FPN.BOTTOM_UP``.

    Raises:
        ValueError: if ``MODEL.FPN.TOP_IN_FEATURE`` names no feature that P6 can be made from.
    """
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
    return _build_fpn(cfg, bottom_up, top_block_class(in_channels[name], out_channels, name))
