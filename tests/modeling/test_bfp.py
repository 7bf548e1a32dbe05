"""Oracles: the pyramid inside, and the levels that another implementation stored."""

import re

import numpy as np
import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone, build_backbone

from libra_umop.config import add_libra_umop_config
from libra_umop.functional.balanced_pyramid import gather_levels, scatter_levels
from libra_umop.modeling import BFP
from testing.shrink import shrink

IMAGE_SHAPE = ShapeSpec(channels=3)


def a_config(pyramid="build_resnet_fpn_backbone"):
    cfg = get_cfg()
    add_libra_umop_config(cfg)
    cfg.MODEL.BACKBONE.NAME = "build_bfp_backbone"
    cfg.MODEL.BFP.PYRAMID = pyramid
    cfg.MODEL.RESNETS.DEPTH = 50
    cfg.MODEL.RESNETS.STRIDE_IN_1X1 = False
    stages = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.IN_FEATURES = stages[1:] if "retinanet" in pyramid else stages
    cfg.MODEL.RESNETS.OUT_FEATURES = cfg.MODEL.FPN.IN_FEATURES
    return shrink(cfg)


class UnevenPyramid(Backbone):
    """Two levels, listed from the coarsest, with constraints that no other pyramid here has."""

    size_divisibility = 48
    padding_constraints = {"size_divisibility": 48, "square_size": 96}

    def __init__(self, channels=(8, 8)):
        super().__init__()
        self._out_features = ["p5", "p4"]
        self._out_feature_strides = {"p4": 16, "p5": 32}
        self._out_feature_channels = dict(zip(self._out_features, channels, strict=True))

    def forward(self, x):
        n, _, h, w = x.shape
        return {"p5": torch.ones(n, 8, h // 32, w // 32), "p4": torch.zeros(n, 8, h // 16, w // 16)}


def to_detectron2(name, first):
    """Name of a parameter of the other implementation in a BFP around a pyramid from P<first>."""
    room, *path, kind = name.split(".")
    if room == "neck" and path[1] == "refine":
        return f"balance.refine.{path[2].replace('conv_', '')}.{kind}"
    if room == "neck":
        level = int(path[2]) + first
        output = f"fpn_output{level}" if level <= 5 else f"top_block.p{level}"
        return f"pyramid.{output if path[1] == 'fpn_convs' else f'fpn_lateral{level}'}.{kind}"
    *block, layer = ".".join(path).replace("downsample.", "downsample").split(".")
    layer = {"downsample0": "shortcut", "downsample1": "shortcut.norm"}.get(layer, layer)
    layer = re.sub(r"bn(\d)", r"conv\1.norm", layer)
    stage = f"res{int(block[0][-1]) + 1}.{block[1]}" if block else "stem"
    return f"pyramid.bottom_up.{stage}.{layer}.{kind}"


@pytest.mark.parametrize(
    "pyramid, levels",
    [
        ("build_resnet_fpn_backbone", ["p2", "p3", "p4", "p5", "p6"]),
        ("build_retinanet_resnet_fpn_backbone", ["p3", "p4", "p5", "p6", "p7"]),
    ],
)
def test_wraps_a_registered_pyramid(pyramid, levels):
    cfg = a_config(pyramid)
    torch.manual_seed(0)
    bfp = build_backbone(cfg).eval()
    torch.manual_seed(0)
    plain = BACKBONE_REGISTRY.get(pyramid)(cfg, IMAGE_SHAPE).eval()
    assert isinstance(bfp, BFP)
    assert bfp.output_shape() == plain.output_shape()
    assert bfp.size_divisibility == plain.size_divisibility == 32
    assert bfp.padding_constraints == plain.padding_constraints

    image = torch.randn(2, 3, 96, 128)
    out, features = bfp(image), plain(image)
    assert list(out) == levels
    features = [features[name] for name in levels]
    average = gather_levels(features, levels.index("p4"))
    for x, expected in zip(out.values(), scatter_levels(average, features), strict=True):
        torch.testing.assert_close(x, expected)


def test_passes_on_the_constraints_of_any_pyramid_and_orders_its_levels():
    bfp = BFP(pyramid=UnevenPyramid(), refine_level="p4", refine_type="none")
    assert bfp.size_divisibility == 48
    assert bfp.padding_constraints == {"size_divisibility": 48, "square_size": 96}
    assert list(bfp.output_shape()) == ["p4", "p5"]
    out = bfp(torch.zeros(1, 3, 96, 96))
    assert (out["p4"] == 0.5).all() and (out["p5"] == 1.5).all()


@pytest.mark.parametrize("refine_type", ["non_local", "conv", "none"])
def test_refinement_is_named_in_the_config(refine_type):
    cfg = a_config()
    cfg.MODEL.BFP.REFINE_LEVEL = "p3"
    cfg.MODEL.BFP.REFINE_TYPE = refine_type
    bfp = build_backbone(cfg)
    names = {n.split(".")[1] for n, _ in bfp.balance.named_parameters()}
    expected = {"non_local": {"theta", "phi", "g", "out"}, "conv": {"out"}, "none": set()}
    assert names == expected[refine_type]
    assert bfp.balance.refine_level == 1


@pytest.mark.parametrize(
    "name, pyramid, first",
    [
        ("libra_faster_rcnn", "build_resnet_fpn_backbone", 2),
        ("libra_retinanet", "build_retinanet_fpn_backbone", 3),
    ],
)
def test_levels_equal_those_of_the_other_implementation(peer, name, pyramid, first):
    stored = np.load(peer / f"{name}_outputs.npz")
    weights = torch.load(peer / f"{name}_mmdet.pth", weights_only=True)["state_dict"]
    cfg = a_config(pyramid)
    cfg.MODEL.RESNETS.NORM = "FrozenBN"
    cfg.MODEL.FPN.OUT_CHANNELS = 32
    cfg.MODEL.FPN.P7_RELU = False
    bfp = build_backbone(cfg).eval()
    rooms = ("backbone.", "neck.")
    weights = {to_detectron2(n, first): w for n, w in weights.items() if n.startswith(rooms)}
    missing = bfp.load_state_dict(weights, strict=False)
    assert missing.missing_keys == []
    assert all("num_batches_tracked" in n for n in missing.unexpected_keys)
    assert bfp.balance.refine.out.weight.abs().sum() > 0  # the attention has its part in the levels

    mean, std = torch.tensor([[123.675, 116.28, 103.53], [58.395, 57.12, 57.375]])[..., None, None]
    with torch.no_grad():
        out = bfp(((torch.tensor(stored["image_rgb"]) - mean) / std)[None])
    for i, x in enumerate(out.values()):
        expected = stored[f"pyramid_{i}"]
        np.testing.assert_allclose(x[0], expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_imagenet_weights_find_the_backbone_inside(tmp_path):
    model = torch.nn.Sequential()
    model.backbone = build_backbone(a_config())
    bottom_up = model.backbone.pyramid.bottom_up
    weights = {n: torch.full_like(p, 0.5) for n, p in bottom_up.state_dict().items()}
    DetectionCheckpointer(model)._load_model(
        {"model": weights, "matching_heuristics": True, "__author__": "torchvision"}
    )
    assert all((p == 0.5).all() for p in bottom_up.parameters())
    assert not any((p == 0.5).all() for p in model.backbone.balance.parameters())


def test_refuses_what_cannot_be_balanced():
    with pytest.raises(ValueError, match="REFINE_LEVEL is 'p9'"):
        BFP(pyramid=UnevenPyramid(), refine_level="p9", refine_type="none")
    with pytest.raises(ValueError, match="should be of one width"):
        BFP(pyramid=UnevenPyramid((8, 16)), refine_level="p4", refine_type="none")
    with pytest.raises(ValueError, match="MODEL.BFP.PYRAMID"):
        build_backbone(a_config("build_bfp_backbone"))
