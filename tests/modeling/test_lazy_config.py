"""Registered classes of the R-CNN family in LazyConfigs, with their parents' arguments alone."""

import inspect

import pytest
import torch
from detectron2.config import LazyConfig, get_cfg, instantiate
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage

from libra_umop import add_libra_umop_config
from libra_umop.modeling import LibraCascadeROIHeads, LibraROIHeads, LibraRPN, OHEMROIHeads

CLASSES = [LibraROIHeads, LibraCascadeROIHeads, OHEMROIHeads, LibraRPN]


@pytest.mark.parametrize("cls", CLASSES)
def test_every_argument_of_ours_has_a_default(cls):
    """Those of the parents come as ``**kwargs``."""
    arguments = inspect.signature(cls.__init__).parameters.values()
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    own = [a for a in arguments if a.kind not in kinds and a.name != "self"]
    assert all(a.default is not a.empty for a in own), own


@pytest.fixture(scope="module")
def model(repo):
    """The example's detector."""
    return instantiate(LazyConfig.load(str(repo / "examples" / "lazy_config.py")).model)


def test_the_defaults_are_those_of_the_keys(model):
    cfg = get_cfg()
    add_libra_umop_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.ROI_HEADS.NAME, cfg.MODEL.PROPOSAL_GENERATOR.NAME = "LibraROIHeads", "LibraRPN"
    cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
    cfg.MODEL.RESNETS.OUT_FEATURES = cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.RPN.IN_FEATURES = cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p2", "p3", "p4", "p5"]
    cfg.MODEL.ROI_BOX_HEAD.NAME, cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = "FastRCNNConvFCHead", 7
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC = 1
    built = build_model(cfg)
    for name in ("negative_sampler", "positive_sampler"):
        assert getattr(model.roi_heads, name) == getattr(built.roi_heads, name)
    poolers = [type(m.roi_heads.box_pooler.level_poolers[0]) for m in (model, built)]
    assert poolers[0] is poolers[1]
    assert model.proposal_generator.neg_pos_ratio == built.proposal_generator.neg_pos_ratio


def test_the_example_trains(model):
    gt = Instances((64, 64))
    gt.gt_boxes = Boxes(torch.tensor([[8.0, 8.0, 40.0, 40.0]]))
    gt.gt_classes = torch.tensor([1])
    gt.gt_masks = BitMasks(torch.ones(1, 64, 64, dtype=torch.bool))
    image = torch.randint(0, 255, (3, 64, 64), dtype=torch.uint8)
    with EventStorage():
        losses = model.train()([{"image": image, "instances": gt}])
    assert all(loss.isfinite() for loss in losses.values()) and "loss_box_reg" in losses
