"""Tiny two-stage detectors, and batches for them."""

from pathlib import Path

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances

from libra_umop.config import add_libra_umop_config
from testing.shrink import shrink

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "COCO-Detection"


def tiny_config(name="faster_rcnn_R_50_FPN_1x", options=()):
    """A config of COCO-Detection, shrunk, with ``options`` as on the command line."""
    cfg = get_cfg()
    add_libra_umop_config(cfg)
    node = CfgNode.load_yaml_with_base(str(CONFIGS / f"{name}.yaml"), allow_unsafe=False)
    cfg.merge_from_other_cfg(CfgNode(node))
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 3
    cfg.MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS = (32,)
    cfg.TEST.DETECTIONS_PER_IMAGE = 5
    shrink(cfg)
    cfg.merge_from_list(list(options))
    return cfg


def tiny_model(cfg, seed=0):
    """The model of a config, in training mode, drawn from ``seed``."""
    torch.manual_seed(seed)
    return build_model(cfg).train()


def proposals_with_ious(ious, gt_box, size=(100, 100)):
    """Proposals inside the box (x0, y0, x1, y1), as wide as it and of these IoUs with it."""
    x0, y0, x1, y1 = gt_box
    ious = torch.as_tensor(ious, dtype=torch.float32)
    boxes = torch.tensor([[x0, y0, x1, y1]], dtype=torch.float32).repeat(len(ious), 1)
    boxes[:, 3] = y0 + ious * (y1 - y0)
    proposals = Instances(size, proposal_boxes=Boxes(boxes))
    proposals.objectness_logits = torch.zeros(len(ious))
    return proposals
