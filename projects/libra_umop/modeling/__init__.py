"""Detectron2 adapters, in the order the data flows; importing this package registers them all."""

# isort: off
from . import backbones  # noqa: F401
from .bfp import BFP, build_bfp_backbone  # noqa: F401
from .retinanet import LibraRetinaNet, UMOPRetinaNet  # noqa: F401
from .atss import ATSS, UMOPATSS  # noqa: F401
from .fcos import FCOS, UMOPFCOS  # noqa: F401
from .fast_rcnn import BalancedL1OutputLayers, region_losses  # noqa: F401
from .poolers import SparseROIAlign, use_sparse_roi_align  # noqa: F401
from .ohem import OHEMROIHeads  # noqa: F401
from .roi_heads import LibraCascadeROIHeads, LibraROIHeads  # noqa: F401
from .rpn import LibraRPN  # noqa: F401
