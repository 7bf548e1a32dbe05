"""The detectors of this project in a LazyConfig: Detectron2's own, with targets exchanged.

    from detectron2.config import LazyConfig, instantiate
    model = instantiate(LazyConfig.load("examples/lazy_config.py").libra_mask_rcnn)

Every class takes its parent's arguments; those of its own have defaults, and are set as any other:
``libra_mask_rcnn.roi_heads.negative_sampler = "random"``.
"""

from detectron2 import model_zoo
from detectron2.config import LazyCall

from libra_umop.modeling import (
    ATSS,
    BFP,
    FCOS,
    GFL,
    UMOPATSS,
    UMOPFCOS,
    LibraCascadeROIHeads,
    LibraRes5ROIHeads,
    LibraRetinaNet,
    LibraROIHeads,
    LibraRPN,
    OHEMROIHeads,
    UMOPRetinaNet,
    VFNet,
)
from libra_umop.modeling.dense.atss import ATSSHead
from libra_umop.modeling.dense.gfl import GFLHead
from libra_umop.modeling.dense.vfnet import VFNetHead


def _detectron2s(name):
    return model_zoo.get_config(f"common/models/{name}.py").model


libra_mask_rcnn = _detectron2s("mask_rcnn_fpn")
libra_mask_rcnn.backbone = LazyCall(BFP)(pyramid=libra_mask_rcnn.backbone)
libra_mask_rcnn.proposal_generator._target_ = LibraRPN
libra_mask_rcnn.roi_heads._target_ = LibraROIHeads

ohem_mask_rcnn = _detectron2s("mask_rcnn_fpn")
ohem_mask_rcnn.roi_heads._target_ = OHEMROIHeads

libra_cascade_rcnn = _detectron2s("cascade_rcnn")
libra_cascade_rcnn.roi_heads._target_ = LibraCascadeROIHeads

libra_mask_rcnn_c4 = _detectron2s("mask_rcnn_c4")
libra_mask_rcnn_c4.roi_heads._target_ = LibraRes5ROIHeads

libra_retinanet = _detectron2s("retinanet")
libra_retinanet._target_ = LibraRetinaNet

umop_retinanet = _detectron2s("retinanet")
umop_retinanet._target_ = UMOPRetinaNet

fcos = _detectron2s("fcos")
fcos._target_ = FCOS

umop_fcos = _detectron2s("fcos")
umop_fcos._target_ = UMOPFCOS

atss = _detectron2s("fcos")
atss._target_ = ATSS
atss.head._target_ = ATSSHead
del atss.test_score_thresh  # FCOS's, of sqrt(score x centerness); ATSS's is of the score alone

umop_atss = _detectron2s("fcos")
umop_atss._target_ = UMOPATSS
umop_atss.head._target_ = ATSSHead
del umop_atss.test_score_thresh

gfl = _detectron2s("fcos")
gfl._target_ = GFL
gfl.head._target_ = GFLHead
del gfl.test_score_thresh

vfnet = _detectron2s("fcos")
vfnet._target_ = VFNet
vfnet.head._target_ = VFNetHead
vfnet.head.conv_dims = [256] * 3
del vfnet.test_score_thresh
