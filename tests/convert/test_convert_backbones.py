"""Swin and Res2Net against mmdetection 3.3.0.

``mmdet_backbones.npz`` holds the features that its ``SwinTransformer`` (embed_dims 8, depths 1 1 2
2, num_heads 1 1 2 4) and ``Res2Net`` (depth 50, every eighth channel) gave on the CPU in eval mode,
for the weights and images below. 96x160 pixels are no whole number of windows on any stage.
"""

import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.layers import ShapeSpec

from libra_umop.config.loading import load_config
from libra_umop.convert.mmdet import from_mmdet, to_mmdet
from libra_umop.convert.read import Checkpoint
from libra_umop.modeling.backbones import build_timm_backbone

pytest.importorskip("timm", reason="timm, an optional dependency, is not installed")
HERE = Path(__file__).parent
CONFIGS = HERE.parents[1] / "configs" / "COCO-Detection"
CASES = {
    "swin": (
        "umop_atss_Swin_S_FPN_2x_ms480-960.yaml",
        {"embed_dim": 8, "depths": [1, 1, 2, 2], "num_heads": [1, 1, 2, 4]},
        (96, 160),
        1,
    ),
    "res2net": (
        "umop_atss_R2_101_26w4s_DCN_FPN_2x_ms480-960.yaml",
        {"layers": [3, 4, 6, 3]},
        (32, 48),
        8,
    ),
}


def made_up(name, shape):
    """Numbers that follow from a tensor's name, of a size that keeps features near 1."""
    values = np.random.RandomState(zlib.crc32(name.encode())).rand(*shape)
    if name.endswith("running_var") or (len(shape) == 1 and name.endswith("weight")):
        return values.astype("float32") + 0.5
    if len(shape) < 2:
        return (0.2 * values - 0.1).astype("float32")
    fan_in = 12 if "table" in name else int(np.prod(shape[1:]))
    return ((values - 0.5) * (12 / fan_in) ** 0.5).astype("float32")


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_features_are_those_of_mmdetection(case):
    config_file, args, size, step = CASES[case]
    cfg = load_config(str(CONFIGS / config_file), ["MODEL.TIMM.POOL_AT_STRIDE_1", "False"])
    cfg.MODEL.TIMM.PRETRAINED = False
    cfg.MODEL.RESNETS.DEFORM_ON_PER_STAGE = [False] * 4
    for name, value in args.items():
        cfg.MODEL.TIMM.ARGS[name] = value
    backbone = build_timm_backbone(cfg, ShapeSpec(channels=3)).eval()
    prefix = "backbone.bottom_up."
    ours = {prefix + name: t for name, t in backbone.state_dict().items()}
    theirs = {  # their names, the shapes they have there, numbers by name
        name: torch.from_numpy(np.asarray(made_up(name, tuple(tensor.shape))))
        for name, tensor in to_mmdet(cfg, ours, {}).tensors.items()
        if tensor.is_floating_point()
    }
    shapes = {name: tensor.shape for name, tensor in ours.items()}
    result = from_mmdet(cfg, shapes, Checkpoint(theirs, {}))
    assert result.missing == [] and result.left_over == []
    backbone.load_state_dict({name[len(prefix) :]: t for name, t in result.tensors.items()})
    image = np.random.RandomState(0).randn(1, 3, *size).astype("float32")
    expected = np.load(HERE / "mmdet_backbones.npz")
    for name, feature in backbone(torch.from_numpy(image)).items():
        peer = torch.from_numpy(expected[f"{case}_{name}"])
        torch.testing.assert_close(feature[0, ::step], peer, atol=1e-4, rtol=1e-4)
