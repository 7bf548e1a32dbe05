"""Detectron2 adapters, in the order the data flows; importing this package registers them all."""

# isort: off
from ..utils import needs_detectron2  # noqa: F401
from . import backbones  # noqa: F401
from .backbones.bfp import BFP, build_bfp_backbone  # noqa: F401
from .dense.retinanet import LibraRetinaNet, UMOPRetinaNet  # noqa: F401
from .dense.atss import ATSS, UMOPATSS  # noqa: F401
from .dense.fcos import FCOS, UMOPFCOS  # noqa: F401
from .rcnn.box_predictor import BalancedL1OutputLayers, region_losses  # noqa: F401
from .rcnn.poolers import SparseROIAlign, use_sparse_roi_align  # noqa: F401
from .rcnn.ohem import OHEMROIHeads  # noqa: F401
from .rcnn.roi_heads import LibraCascadeROIHeads, LibraROIHeads  # noqa: F401
from .rcnn.rpn import LibraRPN  # noqa: F401
