"""timm's feature extractors as backbones, against timm itself."""

import pickle

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone
from torch import nn

from libra_umop.config import add_libra_umop_config
from libra_umop.modeling.backbones import build_timm_backbone

timm = pytest.importorskip("timm", reason="timm, an optional dependency, is not installed")

SWIN, RES2NET = "swin_tiny_patch4_window7_224", "res2net101d"
ARGS = {
    SWIN: {"embed_dim": 8, "depths": [1, 1, 2, 1], "num_heads": [1, 1, 2, 4]},
    RES2NET: {"layers": [2, 2, 2, 2], "channels": [8, 16, 32, 64]},
    "convnext_atto": {"depths": [1, 1, 2, 1], "dims": [8, 16, 32, 64]},
}
IMAGENET = {
    "MODEL.PIXEL_MEAN": [123.675, 116.28, 103.53],
    "MODEL.PIXEL_STD": [58.395, 57.12, 57.375],
    "INPUT.FORMAT": "RGB",
}


def timm_cfg(name, **keys):
    """A config for the small model ``name``; keys with "__" for the dots."""
    cfg = get_cfg()
    add_libra_umop_config(cfg)
    for arg, value in ARGS.get(name, {}).items():
        cfg.MODEL.TIMM.ARGS[arg] = value
    keys = {"MODEL__TIMM__NAME": name, "MODEL__BACKBONE__FREEZE_AT": 0, **keys}
    keys = {"MODEL__RESNETS__NORM": "BN", "MODEL__FPN__IN_FEATURES": ["res3", "res5"], **keys}
    for key, value in {**IMAGENET, **keys}.items():
        cfg.merge_from_list([key.replace("__", "."), value])
    return cfg


def build(name, **keys):
    return build_timm_backbone(timm_cfg(name, **keys), ShapeSpec(channels=3))


@pytest.mark.parametrize("name", [RES2NET, SWIN, "mobilenetv3_small_050"])
@torch.no_grad()
def test_features_are_those_of_timm_in_nchw(name):
    backbone = build(name).eval()
    reference = timm.create_model(name, features_only=True, **ARGS.get(name, {})).eval()
    reference.load_state_dict(backbone.net.state_dict(), strict=False)
    image = torch.rand(1, 3, 224, 224)  # whole windows of 7
    features = backbone(image)
    assert list(features) == ["res3", "res5"]
    strides = reference.feature_info.reduction()
    expected = {f"res{len(bin(r)) - 3}": f for r, f in zip(strides, reference(image), strict=True)}
    for feature_name, feature in features.items():
        shape = backbone.output_shape()[feature_name]
        assert feature.shape == (1, shape.channels, 224 // shape.stride, 224 // shape.stride)
        theirs = expected[feature_name]
        theirs = theirs.permute(0, 3, 1, 2) if name == SWIN else theirs
        torch.testing.assert_close(feature, theirs, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_swin_takes_any_size_and_never_wraps_around_the_image():
    """12 rows are 2 short of two windows. Shifted by 3, rows 10 and 11 share a window with rows 0
    to 2, from which the mask has to part them."""
    block = build(SWIN).net.layers_2.blocks[1].eval()
    assert block.shift_size == (3, 3)
    x = torch.randn(1, 12, 12, block.dim)
    changed = x.clone()
    changed[:, 11] = torch.randn(12, block.dim)
    moved = (block(x) - block(changed)).abs().amax(dim=(0, 2, 3)) > 1e-6  # by row
    assert moved.nonzero().flatten().tolist() == [10, 11]
    unpatched = super(type(block), block)
    leaked = (unpatched._attn(x) - unpatched._attn(changed)).abs().amax(dim=(0, 2, 3)) > 1e-6
    assert leaked[:2].any()  # timm alone mixes the bottom of the image into its top


@pytest.mark.parametrize(
    "pyramid, levels",
    [
        ("build_fpn_backbone", ["p3", "p4", "p5", "p6"]),
        ("build_retinanet_fpn_backbone", ["p3", "p4", "p5", "p6", "p7"]),
        ("build_bfp_backbone", ["p3", "p4", "p5", "p6", "p7"]),
    ],
)
@pytest.mark.parametrize("name", [SWIN, RES2NET])
def test_stands_under_every_pyramid_and_gets_gradients(name, pyramid, levels):
    cfg = timm_cfg(
        name,
        MODEL__BACKBONE__NAME=pyramid,
        MODEL__BFP__PYRAMID="build_retinanet_fpn_backbone",
        MODEL__FPN__BOTTOM_UP="build_timm_backbone",
        MODEL__FPN__IN_FEATURES=["res3", "res4", "res5"],
        MODEL__FPN__OUT_CHANNELS=8,
        MODEL__TIMM__OUT_NORM="LN",
    )
    backbone = build_backbone(cfg)
    assert backbone.size_divisibility == 32
    features = backbone(torch.rand(2, 3, 64, 96))
    assert list(features) == levels
    sum(f.square().sum() for f in features.values()).backward()
    without = [n for n, p in backbone.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []


def test_frozen_stages_have_no_gradient_no_statistics_and_no_drop_path():
    backbone = build(SWIN, MODEL__BACKBONE__FREEZE_AT=3, MODEL__TIMM__DROP_PATH=0.5).train()
    frozen = {n.split(".")[1] for n, p in backbone.named_parameters() if not p.requires_grad}
    assert frozen == {"patch_embed", "layers_0", "layers_1"}
    assert not backbone.net.layers_1.training and backbone.net.layers_2.training
    res2net = build(RES2NET, MODEL__BACKBONE__FREEZE_AT=2).train()
    batch_norms = {
        n.split(".")[0] for n, m in res2net.net.named_modules() if isinstance(m, nn.BatchNorm2d)
    }
    assert batch_norms == {"layer2", "layer3", "layer4"}
    trained = {n.split(".")[1] for n, p in res2net.named_parameters() if p.requires_grad}
    assert trained == {"layer2", "layer3", "layer4"}


def test_frozen_bn_freezes_every_batch_norm_with_its_activation():
    backbone = build("mobilenetv3_small_050", MODEL__RESNETS__NORM="FrozenBN").eval()
    assert not any(isinstance(m, nn.BatchNorm2d) for m in backbone.modules())
    trained = build("mobilenetv3_small_050").eval()
    trained.load_state_dict(backbone.state_dict(), strict=False)
    image = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(backbone(image)["res5"], trained(image)["res5"])


def test_drop_path_drops_in_training_alone():
    backbone = build(SWIN, MODEL__TIMM__DROP_PATH=0.9)
    image = torch.rand(2, 3, 64, 64)
    backbone.train()
    assert not torch.equal(backbone(image)["res5"], backbone(image)["res5"])
    backbone.eval()
    assert torch.equal(backbone(image)["res5"], backbone(image)["res5"])


def test_gradient_checkpointing_changes_no_number():
    plain, saving = build(SWIN), build(SWIN, MODEL__TIMM__GRAD_CHECKPOINT=True)
    saving.load_state_dict(plain.state_dict())
    assert saving.net.grad_checkpointing and not plain.net.grad_checkpointing
    image = torch.rand(1, 3, 64, 64)
    for backbone in (plain, saving):
        backbone.train()(image)["res5"].square().sum().backward()
    for a, b in zip(plain.parameters(), saving.parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None)
        if a.grad is not None:
            torch.testing.assert_close(a.grad, b.grad)


@torch.no_grad()
def test_the_network_sees_its_own_normalisation_whatever_the_detector_uses():
    pixels = torch.rand(1, 3, 64, 64) * 255  # RGB
    own = build(RES2NET).eval()
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in list(IMAGENET.values())[:2])
    expected = own((pixels - mean) / std)["res5"]
    other = build(
        RES2NET,
        INPUT__FORMAT="BGR",
        MODEL__PIXEL_MEAN=[103.53, 116.28, 123.675],
        MODEL__PIXEL_STD=[1.0, 1.0, 1.0],
    ).eval()
    other.load_state_dict(own.state_dict())
    bgr = pixels.flip(1) - torch.tensor([103.53, 116.28, 123.675]).view(3, 1, 1)
    torch.testing.assert_close(other(bgr)["res5"], expected, atol=1e-4, rtol=1e-4)
    assert isinstance(own.input_normalization, nn.Identity)


@torch.no_grad()
def test_unmodulated_deformable_stages_start_as_the_plain_network():
    deform = dict(MODEL__RESNETS__DEFORM_ON_PER_STAGE=[False, True, True, True])
    plain, deformed = build(RES2NET).eval(), build(RES2NET, **deform).eval()
    keys = plain.load_state_dict(deformed.state_dict(), strict=False)
    assert not keys.missing_keys
    offsets = {k.rsplit(".", 1)[0] for k in keys.unexpected_keys}
    assert len(offsets) == 3 * 2 * 3  # stages, blocks, 3x3 convolutions of a block of 4 scales
    assert all(k.endswith("conv_offset") and ".convs." in k for k in offsets)
    image = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(deformed(image)["res5"], plain(image)["res5"], atol=1e-5, rtol=1e-4)


def test_stage_without_3x3_convolution_cannot_be_deformable():
    with pytest.raises(ValueError, match="DEFORM_ON_PER_STAGE chooses res3"):
        build(SWIN, MODEL__RESNETS__DEFORM_ON_PER_STAGE=[False, True, True, True])


FAMILIES = ["tf_efficientnet_lite0", "mobilenetv3_small_050", "regnety_002", "convnext_atto"]


@pytest.mark.parametrize("freeze_at", [2, 3])
@pytest.mark.parametrize("name", FAMILIES)
def test_frozen_is_what_makes_the_feature_of_that_stage(name, freeze_at):
    """Autograd says which parameters a feature is made of."""
    feature = f"res{freeze_at}"
    keys = {"MODEL__FPN__IN_FEATURES": [feature, "res5"]}
    trained = build(name, **keys)
    trained(torch.rand(2, 3, 64, 64))[feature].sum().backward()
    makes_it = {n for n, p in trained.named_parameters() if p.grad is not None}
    backbone = build(name, MODEL__BACKBONE__FREEZE_AT=freeze_at, **keys).train()
    learned = {n for n, p in backbone.named_parameters() if p.requires_grad}
    all_names = {n for n, _ in trained.named_parameters()}
    assert learned == all_names - makes_it
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    backbone(torch.rand(2, 3, 64, 64))["res5"].sum().backward()
    changed = {k for k, v in backbone.state_dict().items() if not torch.equal(v, before[k])}
    norms = {k.rsplit(".", 1)[0] for k in changed}  # those whose statistics moved
    assert all(f"{norm}.weight" in learned for norm in norms)
    assert bool(norms) == (name != "convnext_atto")  # which has layer norms alone


def test_stage_whose_convolutions_pad_as_they_run_cannot_be_deformable():
    keys = {"MODEL__RESNETS__DEFORM_ON_PER_STAGE": [True, False, False, False]}
    with pytest.raises(ValueError, match="Conv2dSame; only a plain Conv2d"):
        build("tf_efficientnet_lite0", **keys)


def test_network_without_stages_in_a_row_cannot_be_frozen():
    with pytest.raises(ValueError, match="FREEZE_AT 0"):
        build("hrnet_w18_small", MODEL__BACKBONE__FREEZE_AT=2)


def test_weights_come_from_a_local_file_unless_the_detector_has_its_own(tmp_path):
    source = timm.create_model(RES2NET, **ARGS[RES2NET])
    path = tmp_path / "res2net.pth"
    torch.save(source.state_dict(), path)
    keys = dict(MODEL__TIMM__WEIGHTS=str(path), MODEL__WEIGHTS="")
    loaded = build(RES2NET, **keys).net.layer3[0].convs[0].weight
    assert torch.equal(loaded, source.layer3[0].convs[0].weight)
    skipped = build(RES2NET, **{**keys, "MODEL__WEIGHTS": "detector.pth"})
    assert not torch.equal(skipped.net.layer3[0].convs[0].weight, loaded)


class Exploit:
    """Makes a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return (open, (self.marker, "w"))


@pytest.mark.parametrize("content", ["missing", "exploit", "other network"])
def test_weights_that_cannot_be_read_are_named(tmp_path, content):
    path = tmp_path / "weights.pth"
    if content == "exploit":
        path.write_bytes(pickle.dumps(Exploit(tmp_path / "it_ran")))
    elif content == "other network":
        torch.save(timm.create_model("resnet18").state_dict(), path)
    with pytest.raises(ValueError, match="MODEL.TIMM.WEIGHTS is"):
        build(RES2NET, MODEL__TIMM__WEIGHTS=str(path), MODEL__WEIGHTS="")
    assert not (tmp_path / "it_ran").exists()


@pytest.mark.parametrize(
    "keys, message",
    [
        ({"MODEL__TIMM__NAME": "swin_tinny_patch4_window7_224"}, "swin_tiny_patch4_window7_224"),
        (
            {"MODEL__FPN__IN_FEATURES": ["res3", "res6"]},
            r"IN_FEATURES is \['res3', 'res6'\], should be of",
        ),
        ({"MODEL__TIMM__OUT_NORM": "BN"}, "OUT_NORM is 'BN'"),
        ({"MODEL__RESNETS__NORM": "GN"}, "MODEL.RESNETS.NORM is 'GN'"),
        ({"INPUT__FORMAT": "L"}, "INPUT.FORMAT is 'L'"),
    ],
)
def test_wrong_keys_are_named_with_what_would_be_right(keys, message):
    with pytest.raises(ValueError, match=message):
        build(SWIN, **keys)


def test_argument_that_the_model_does_not_take_is_named():
    cfg = timm_cfg(SWIN)
    cfg.MODEL.TIMM.ARGS.no_such_argument = 1
    with pytest.raises(ValueError, match="no_such_argument"):
        build_timm_backbone(cfg, ShapeSpec(channels=3))
