"""Bottom-up networks beyond Detectron2's own, and pyramids over any of them."""

from .deformable import (
    DeformBottleneckBlock,
    DeformConv2d,
    SelfOffsetDeformConv2d,
    build_deform_resnet_backbone,
)
from .pyramids import (
    PAFPN,
    build_fpn_backbone,
    build_pafpn_backbone,
    build_retinanet_fpn_backbone,
    build_retinanet_pafpn_backbone,
)
from .timm.builder import TimmBackbone, build_timm_backbone

__all__ = [
    "DeformBottleneckBlock",
    "DeformConv2d",
    "PAFPN",
    "SelfOffsetDeformConv2d",
    "TimmBackbone",
    "build_deform_resnet_backbone",
    "build_fpn_backbone",
    "build_pafpn_backbone",
    "build_retinanet_fpn_backbone",
    "build_retinanet_pafpn_backbone",
    "build_timm_backbone",
]
