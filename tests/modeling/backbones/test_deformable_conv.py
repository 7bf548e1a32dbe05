"""Deformable convolutions against their equation, Detectron2's block and plain convolutions."""

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import build_resnet_backbone
from detectron2.modeling.backbone import resnet as detectron2_resnet
from torch import nn
from torch.nn import functional as F
from torchvision.ops import deform_conv2d

from libra_umop.modeling.backbones.deformable import (
    DeformBottleneckBlock,
    DeformConv2d,
    SelfOffsetDeformConv2d,
    build_deform_resnet_backbone,
    split_offsets,
)


def deformed_by_the_equation(x, offsets, modulation, weight):
    """y(p) = sum_k w_k x(p + p_k + dp_k) m_k, sampled bilinearly by grid_sample."""
    height, width = x.shape[-2:]
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    out = 0
    for k in range(9):
        y = rows + k // 3 - 1 + offsets[:, 2 * k]
        x_ = columns + k % 3 - 1 + offsets[:, 2 * k + 1]
        grid = torch.stack((2 * x_ / (width - 1) - 1, 2 * y / (height - 1) - 1), dim=-1)
        sampled = F.grid_sample(x, grid.to(x.dtype), align_corners=True)  # (N, C, H, W)
        out = (
            out
            + torch.einsum("nchw,oc->nohw", sampled, weight[:, :, k // 3, k % 3])
            * (modulation[:, k : k + 1])
        )
    return out


def test_deform_conv_is_its_equation():
    conv = DeformConv2d(in_channels=3, out_channels=4).double()
    x = torch.rand(2, 3, 6, 7, dtype=torch.float64)
    offsets = torch.randn(2, 18, 6, 7, dtype=torch.float64)
    modulation = torch.rand(2, 9, 6, 7, dtype=torch.float64)
    expected = deformed_by_the_equation(x, offsets, modulation, conv.weight)
    torch.testing.assert_close(conv(x, offsets, modulation), expected)


def test_deform_conv_gradient_is_the_numerical_one():
    conv = DeformConv2d(in_channels=2, out_channels=2).double()
    inputs = (
        torch.rand(1, 2, 3, 4, dtype=torch.float64, requires_grad=True),
        torch.randn(1, 18, 3, 4, dtype=torch.float64, requires_grad=True),
        torch.rand(1, 9, 3, 4, dtype=torch.float64, requires_grad=True),
    )
    assert torch.autograd.gradcheck(conv, inputs)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("stride", [1, 2])
def test_new_layer_is_the_plain_convolution_or_half_of_it(groups, stride):
    plain = nn.Conv2d(4, 6, 3, stride=stride, padding=1, groups=groups, bias=False)
    x = torch.rand(2, 4, 9, 8)
    unmodulated = SelfOffsetDeformConv2d.from_conv(plain, modulated=False)
    modulated = SelfOffsetDeformConv2d.from_conv(plain, offset_groups=2)
    torch.testing.assert_close(unmodulated(x), plain(x))
    torch.testing.assert_close(modulated(x), plain(x) / 2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_gives_its_dtype_and_float32_numbers(dtype):
    conv = SelfOffsetDeformConv2d.from_conv(nn.Conv2d(3, 3, 3, padding=1))
    nn.init.normal_(conv.conv_offset.weight, std=0.1)
    x = torch.rand(1, 3, 8, 8, requires_grad=True)
    expected = conv(x)
    with torch.autocast("cpu", dtype=dtype):
        out = conv(x.to(dtype))
    assert out.dtype == dtype
    torch.testing.assert_close(out.float(), expected, atol=0.05, rtol=0.05)
    out.float().sum().backward()
    assert all(p.grad.isfinite().all() for p in conv.parameters())
    assert conv.to(dtype)(x.to(dtype)).dtype == dtype


def test_empty_batch_gives_an_empty_batch():
    conv = SelfOffsetDeformConv2d.from_conv(nn.Conv2d(3, 5, 3, stride=2, padding=1))
    out = conv(torch.zeros(0, 3, 8, 6))
    assert out.shape == (0, 5, 4, 3)
    out.sum().backward()


@pytest.mark.gpu
def test_cuda_equals_cpu_forward_and_backward():
    conv = SelfOffsetDeformConv2d.from_conv(nn.Conv2d(3, 5, 3, padding=1))
    nn.init.normal_(conv.conv_offset.weight, std=0.1)
    x = torch.rand(2, 3, 8, 6)
    on_cpu = torch.autograd.grad(conv(x).square().sum(), list(conv.parameters()))
    conv.cuda()
    on_cuda = torch.autograd.grad(conv(x.cuda()).square().sum(), list(conv.parameters()))
    for a, b in zip(on_cpu, on_cuda, strict=True):
        torch.testing.assert_close(a, b.cpu(), atol=1e-4, rtol=1e-4)
    with torch.autocast("cuda", dtype=torch.float16):
        assert conv(x.cuda()).isfinite().all()


def test_split_offsets_without_modulation_is_the_prediction():
    prediction = torch.rand(1, 18, 2, 2)
    offsets, modulation = split_offsets(prediction, modulated=False)
    assert offsets is prediction and modulation is None


def test_named_padding_is_refused():
    with pytest.raises(ValueError, match="should be with zeros"):
        DeformConv2d.from_conv(nn.Conv2d(3, 3, 3, padding="same"))


class CompiledDeformConv(nn.Module):
    """Stands for Detectron2's compiled layer, which is not built here: same names, same call."""

    def __init__(self, in_channels, out_channels, *, groups, norm, stride, padding, **unused):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(out_channels, in_channels // groups, 3, 3))
        self.bias = None
        self.norm, self.stride, self.padding = norm, stride, padding

    def forward(self, x, offset, mask=None):
        geometry = {"stride": self.stride, "padding": self.padding}
        return self.norm(deform_conv2d(x, offset, self.weight, mask=mask, **geometry))


@pytest.mark.parametrize("modulated", [True, False])
def test_weights_of_detectron2s_block_load_and_compute_the_same(monkeypatch, modulated):
    monkeypatch.setattr(detectron2_resnet, "DeformConv", CompiledDeformConv)
    monkeypatch.setattr(detectron2_resnet, "ModulatedDeformConv", CompiledDeformConv)
    kwargs = dict(
        bottleneck_channels=4, stride=2, num_groups=2, deform_modulated=modulated, norm="BN"
    )
    theirs = detectron2_resnet.DeformBottleneckBlock(8, 16, **kwargs)
    ours = DeformBottleneckBlock(8, 16, **kwargs)
    nn.init.normal_(theirs.conv2_offset.weight, std=0.3)
    ours.load_state_dict(theirs.state_dict())
    x = torch.rand(2, 8, 8, 8)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


def resnet_cfg(**keys):
    cfg = get_cfg()
    cfg.MODEL.RESNETS.DEPTH = 50
    cfg.MODEL.RESNETS.STEM_OUT_CHANNELS = 4
    cfg.MODEL.RESNETS.WIDTH_PER_GROUP = 4
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 8
    cfg.MODEL.RESNETS.NORM = "BN"
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res5"]
    for key, value in keys.items():
        setattr(cfg.MODEL.RESNETS, key, value)
    return cfg


def test_resnet_without_deformable_stages_is_detectron2s():
    cfg = resnet_cfg()
    ours = build_deform_resnet_backbone(cfg, ShapeSpec(channels=3))
    theirs = build_resnet_backbone(cfg, ShapeSpec(channels=3))
    theirs.load_state_dict(ours.state_dict())
    x = torch.rand(1, 3, 32, 32)
    for name, feature in theirs.eval()(x).items():
        assert torch.equal(ours.eval()(x)[name], feature)


def test_chosen_stages_become_deformable_and_start_as_the_plain_network():
    cfg = resnet_cfg(DEFORM_ON_PER_STAGE=[False, True, True, True])
    deformed = build_deform_resnet_backbone(cfg, ShapeSpec(channels=3)).eval()
    plain = build_resnet_backbone(resnet_cfg(), ShapeSpec(channels=3)).eval()
    keys = plain.load_state_dict(deformed.state_dict(), strict=False)
    assert not keys.missing_keys
    assert {k.rsplit(".", 2)[1] for k in keys.unexpected_keys} == {"conv2_offset"}
    stages = {k.split(".")[0] for k in keys.unexpected_keys}
    assert stages == {"res3", "res4", "res5"}
    assert len(keys.unexpected_keys) == 2 * (4 + 6 + 3)
    x = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(deformed(x)["res5"], plain(x)["res5"], atol=1e-4, rtol=1e-4)


def test_frozen_stages_stay_frozen_when_deformable():
    cfg = resnet_cfg(DEFORM_ON_PER_STAGE=[False, True, True, True])
    cfg.MODEL.BACKBONE.FREEZE_AT = 3
    resnet = build_deform_resnet_backbone(cfg, ShapeSpec(channels=3))
    assert not any(p.requires_grad for p in resnet.res3.parameters())
    assert all(p.requires_grad for p in resnet.res4.parameters())


def test_basic_blocks_are_refused():
    cfg = resnet_cfg(DEPTH=18, DEFORM_ON_PER_STAGE=[False, True, True, True])
    with pytest.raises(ValueError, match="MODEL.RESNETS.DEPTH 18"):
        build_deform_resnet_backbone(cfg, ShapeSpec(channels=3))
