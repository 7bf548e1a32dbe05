"""Pyramids over any bottom-up network against Detectron2's own."""

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_backbone
from torch.nn import functional as F

from libra_umop.config import add_libra_umop_config


def pyramid_cfg(name, **fpn):
    cfg = get_cfg()
    add_libra_umop_config(cfg)
    cfg.MODEL.BACKBONE.NAME = name
    cfg.MODEL.RESNETS.DEPTH = 18
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res3", "res4", "res5"]
    cfg.MODEL.RESNETS.NORM = "BN"
    cfg.MODEL.FPN.IN_FEATURES = ["res3", "res4", "res5"]
    cfg.MODEL.FPN.OUT_CHANNELS = 8
    for key, value in fpn.items():
        setattr(cfg.MODEL.FPN, key, value)
    return cfg


@pytest.mark.parametrize(
    "ours, theirs",
    [
        ("build_fpn_backbone", "build_resnet_fpn_backbone"),
        ("build_retinanet_fpn_backbone", "build_retinanet_resnet_fpn_backbone"),
    ],
)
@torch.no_grad()
def test_defaults_are_detectron2s_pyramids(ours, theirs):
    ours, theirs = build_backbone(pyramid_cfg(ours)), build_backbone(pyramid_cfg(theirs))
    theirs.load_state_dict(ours.state_dict())
    image = torch.rand(1, 3, 64, 64)
    expected = theirs.eval()(image)
    for name, level in ours.eval()(image).items():
        assert torch.equal(level, expected[name])
    assert ours.output_shape() == theirs.output_shape()
    assert ours.size_divisibility == theirs.size_divisibility


@torch.no_grad()
def test_p7_has_a_relu_before_it_unless_told_otherwise():
    for relu in (True, False):
        cfg = pyramid_cfg("build_retinanet_fpn_backbone", P7_RELU=relu)
        pyramid = build_backbone(cfg).eval()
        levels = pyramid(torch.rand(1, 3, 128, 128))
        p6 = F.relu(levels["p6"]) if relu else levels["p6"]
        torch.testing.assert_close(levels["p7"], pyramid.top_block.p7(p6))


@torch.no_grad()
def test_p6_is_made_from_p5_if_asked():
    cfg = pyramid_cfg("build_retinanet_fpn_backbone", TOP_IN_FEATURE="p5")
    pyramid = build_backbone(cfg).eval()
    levels = pyramid(torch.rand(1, 3, 64, 64))
    torch.testing.assert_close(levels["p6"], pyramid.top_block.p6(levels["p5"]))


def test_unknown_top_feature_is_named():
    with pytest.raises(ValueError, match="TOP_IN_FEATURE is 'p4'"):
        build_backbone(pyramid_cfg("build_retinanet_fpn_backbone", TOP_IN_FEATURE="p4"))
