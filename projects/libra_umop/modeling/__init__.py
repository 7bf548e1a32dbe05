"""Detectron2 adapters, in the order the data flows; importing this package registers them all."""

# isort: off
from ..utils import needs_detectron2  # noqa: F401
from . import backbones  # noqa: F401
from .anchors import TorchvisionAnchorGenerator
from .backbones.bfp import BFP, build_bfp_backbone
from .dense.retinanet import LibraRetinaNet, UMOPRetinaNet
from .dense.atss import ATSS, UMOPATSS
from .dense.fcos import FCOS, UMOPFCOS
from .dense.gfl import GFL
from .dense.vfnet import VFNet
from .rcnn.box_predictor import BalancedL1OutputLayers, region_losses
from .rcnn.poolers import SparseROIAlign, use_sparse_roi_align
from .rcnn.ohem import OHEMROIHeads
from .rcnn.roi_heads import LibraCascadeROIHeads, LibraRes5ROIHeads, LibraROIHeads
from .rcnn.rpn import LibraRPN

__all__ = [
    "ATSS",
    "BFP",
    "BalancedL1OutputLayers",
    "FCOS",
    "GFL",
    "LibraCascadeROIHeads",
    "LibraROIHeads",
    "LibraRes5ROIHeads",
    "LibraRPN",
    "LibraRetinaNet",
    "OHEMROIHeads",
    "SparseROIAlign",
    "TorchvisionAnchorGenerator",
    "UMOPATSS",
    "UMOPFCOS",
    "UMOPRetinaNet",
    "VFNet",
    "build_bfp_backbone",
    "region_losses",
    "use_sparse_roi_align",
]
