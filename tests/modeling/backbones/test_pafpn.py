"""PAFPN against FPN of the same weights, its recursion by hand, and BFP around it."""

from itertools import pairwise

import pytest
import torch
from detectron2.modeling import build_backbone
from test_pyramids import pyramid_cfg
from torch import nn
from torch.nn import functional as F

from libra_umop.modeling import BFP

BUILDERS = {  # PAFPN's and FPN's
    "build_pafpn_backbone": "build_fpn_backbone",
    "build_retinanet_pafpn_backbone": "build_retinanet_fpn_backbone",
}
IMAGE = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def both(name, **fpn):
    """A PAFPN and the FPN of its weights."""
    torch.manual_seed(0)
    pafpn = build_backbone(pyramid_cfg(name, **fpn)).eval()
    plain = build_backbone(pyramid_cfg(BUILDERS[name], **fpn)).eval()
    extra = plain.load_state_dict(pafpn.state_dict(), strict=False)
    assert extra.missing_keys == []
    assert all(key.startswith("pafpn_") for key in extra.unexpected_keys)
    return pafpn, plain


@pytest.mark.parametrize("name", BUILDERS)
@torch.no_grad()
def test_levels_follow_the_recursion_from_the_finest_one_up(name):
    pafpn, plain = both(name, TOP_IN_FEATURE="p5")
    levels, expected = pafpn(IMAGE), plain(IMAGE)
    assert list(levels) == list(expected) and pafpn.output_shape() == plain.output_shape()
    assert levels["p3"].equal(expected["p3"])
    for finer, coarser in (("p3", "p4"), ("p4", "p5")):
        down, output = (getattr(pafpn, f"pafpn_{x}{coarser[1]}") for x in ("down", "output"))
        step = F.relu(F.conv2d(levels[finer], down.weight, down.bias, stride=2, padding=1))
        step = F.conv2d(expected[coarser] + step, output.weight, output.bias, padding=1)
        torch.testing.assert_close(levels[coarser], F.relu(step))
    top = plain.top_block(levels["p5"])
    for level, x in zip(list(levels)[3:], top, strict=True):
        torch.testing.assert_close(levels[level], x)


@torch.no_grad()
def test_a_top_block_over_the_bottom_up_network_stays_over_it():
    pafpn, plain = both("build_retinanet_pafpn_backbone", TOP_IN_FEATURE="res5")
    levels, expected = pafpn(IMAGE), plain(IMAGE)
    assert levels["p6"].equal(expected["p6"]) and levels["p7"].equal(expected["p7"])
    assert not levels["p5"].equal(expected["p5"])


@torch.no_grad()
def test_a_location_of_the_finest_level_reaches_all_coarser_ones():
    """With kernels of one at the centre each level adds every second location of the finer one."""
    pafpn, plain = both("build_pafpn_backbone")
    for name, conv in pafpn.named_modules():
        if name.startswith("pafpn_") and isinstance(conv, nn.Conv2d):
            conv.weight.zero_()
            conv.weight[:, :, 1, 1] = torch.eye(8)
    levels, p = pafpn(IMAGE), plain(IMAGE)
    for finer, coarser in pairwise(["p3", "p4", "p5"]):
        expected = F.relu(p[coarser] + F.relu(levels[finer][:, :, ::2, ::2]))
        torch.testing.assert_close(levels[coarser], expected)


@pytest.mark.parametrize("norm", ["", "GN"])
@pytest.mark.parametrize("name", BUILDERS)
def test_every_parameter_learns_and_bfp_goes_around_it(name, norm):
    cfg = pyramid_cfg("build_bfp_backbone", NORM=norm, OUT_CHANNELS=32, TOP_IN_FEATURE="p5")
    cfg.MODEL.BFP.PYRAMID = name
    bfp = build_backbone(cfg)
    assert isinstance(bfp, BFP)
    convs = [m for n, m in bfp.named_modules() if "pafpn_" in n and isinstance(m, nn.Conv2d)]
    assert len(convs) == 4 and all((conv.norm is None) == (norm == "") for conv in convs)
    nn.init.normal_(bfp.balance.refine.out.weight)  # 0 at the start
    sum(x.square().mean() for x in bfp(torch.rand(2, 3, 128, 128)).values()).backward()
    without = [n for n, p in bfp.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
