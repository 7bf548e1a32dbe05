"""Names there: that every tensor has one, and that they are the names mmdetection uses."""

from pathlib import Path

import pytest
import torch

from libra_umop.config.loading import load_config
from libra_umop.convert.checks import contradictions
from libra_umop.convert.mmdet import from_mmdet, to_mmdet
from libra_umop.convert.read import Checkpoint
from libra_umop.convert.run import tensor_shapes
from testing.shrink import shrink

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
COCO = "COCO-Detection/"
NAMES = {  # config: some names that mmdetection gives tensors of this architecture
    COCO + "umop_atss_R_101_DCN_FPN_1.5x_ms640-800.yaml": [
        "backbone.layer2.0.conv2.conv_offset.weight",
        "backbone.layer4.2.conv2.conv_offset.bias",
        "backbone.layer1.0.downsample.1.running_var",
        "bbox_head.cls_convs.3.gn.bias",
        "bbox_head.scales.4.scale",
        "neck.fpn_convs.4.conv.bias",
    ],
    COCO + "umop_atss_X_101_64x4d_DCN_FPN_1.5x_ms640-800.yaml": ["backbone.layer3.5.conv2.weight"],
    COCO + "umop_atss_R2_101_26w4s_DCN_FPN_2x_ms480-960.yaml": [
        "backbone.stem.0.weight",
        "backbone.stem.7.running_mean",
        "backbone.layer2.0.downsample.2.weight",
        "backbone.layer2.0.convs.2.conv_offset.weight",
        "backbone.layer3.1.bns.0.bias",
    ],
    COCO + "umop_atss_Swin_S_FPN_2x_ms480-960.yaml": [
        "backbone.patch_embed.projection.weight",
        "backbone.stages.0.blocks.1.attn.w_msa.relative_position_bias_table",
        "backbone.stages.2.blocks.0.ffn.layers.0.0.weight",
        "backbone.stages.3.blocks.1.ffn.layers.1.bias",
        "backbone.stages.2.downsample.reduction.weight",
        "backbone.norm1.weight",
        "backbone.norm3.bias",
    ],
    COCO + "libra_cascade_rcnn_R_50_FPN_1x.yaml": [
        "neck.0.lateral_convs.3.conv.weight",
        "neck.1.refine.conv_out.conv.weight",
        "roi_head.bbox_head.2.shared_fcs.1.bias",
        "roi_head.bbox_head.0.fc_reg.weight",
    ],
    "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml": [
        "roi_head.mask_head.convs.3.conv.weight",
        "roi_head.mask_head.upsample.bias",
        "roi_head.mask_head.conv_logits.weight",
    ],
}


def small_cfg(name):
    return shrink(load_config(str(CONFIGS / name)))


def weights_of(cfg):
    """Every tensor of the model filled with its own random numbers, biases before norms zero."""
    weights = {name: torch.rand(shape) for name, shape in tensor_shapes(cfg).items()}
    for name in weights:
        if "subnet" in name and name.endswith(".bias"):
            follower = name.rsplit(".", 2)
            if f"{follower[0]}.{int(follower[1]) + 1}.weight" in weights:
                weights[name].zero_()
    return weights


@pytest.mark.parametrize("name", NAMES)
def test_every_tensor_has_a_name_of_its_own_there_and_comes_back(name):
    cfg = small_cfg(name)
    weights = weights_of(cfg)
    there = to_mmdet(cfg, weights, {})
    assert there.missing == []
    assert set(NAMES[name]) <= set(there.tensors)
    back = from_mmdet(cfg, {n: t.shape for n, t in weights.items()}, Checkpoint(there.tensors, {}))
    assert back.missing == [] and back.left_over == []
    assert back.tensors.keys() == weights.keys()
    for key, tensor in weights.items():
        assert torch.equal(back.tensors[key], tensor), key


def test_early_names_of_deformable_offsets_are_read():
    cfg = small_cfg(COCO + "umop_atss_R_101_DCN_FPN_1.5x_ms640-800.yaml")
    weights = weights_of(cfg)
    there = to_mmdet(cfg, weights, {}).tensors
    early = {k.replace("conv2.conv_offset", "conv2_offset"): v for k, v in there.items()}
    back = from_mmdet(cfg, {n: t.shape for n, t in weights.items()}, Checkpoint(early, {}))
    assert back.missing == [] and back.left_over == []


def test_swin_authors_own_names_are_read_in_their_own_order():
    cfg = small_cfg(COCO + "umop_atss_Swin_S_FPN_2x_ms480-960.yaml")
    weights = weights_of(cfg)
    there = to_mmdet(cfg, weights, {}).tensors
    renames = [
        ("patch_embed.projection", "patch_embed.proj"),
        (".stages.", ".layers."),
        ("attn.w_msa.", "attn."),
        ("ffn.layers.0.0.", "mlp.fc1."),
        ("ffn.layers.1.", "mlp.fc2."),
    ]
    authors = {}
    for key, tensor in there.items():
        if ".downsample." in key:
            stage = int(key.split(".")[2]) + 1
            tensor = weights[f"backbone.bottom_up.net.layers_{stage}.{key.split('.', 3)[3]}"]
        for theirs, own in renames:
            key = key.replace(theirs, own)
        authors[key] = tensor
    back = from_mmdet(cfg, {n: t.shape for n, t in weights.items()}, Checkpoint(authors, {}))
    assert back.missing == [] and back.left_over == []
    for key, tensor in weights.items():
        assert torch.equal(back.tensors[key], tensor), key


def test_bias_before_a_norm_cannot_go_where_there_is_none():
    """Detectron2's RetinaNet head has such biases; the ATSS head here has none."""
    cfg = small_cfg(COCO + "umop_retinanet_R_50_FPN_1x.yaml")
    cfg.MODEL.RETINANET.NORM = "GN"
    weights = {name: torch.rand(shape) for name, shape in tensor_shapes(cfg).items()}
    assert "head.cls_subnet.0.bias is not zero" in to_mmdet(cfg, weights, {}).missing[0]
    atss = tensor_shapes(small_cfg(COCO + "atss_R_50_FPN_1x.yaml"))
    assert not any("subnet.0.bias" in name for name in atss)


def test_fcos_has_another_box_coding_and_no_names():
    cfg = small_cfg(COCO + "fcos_R_50_FPN_1x.yaml")
    weights = weights_of(cfg)
    missing = to_mmdet(cfg, weights, {}).missing
    assert any(name.startswith("head.bbox_pred.weight (there: no name known)") for name in missing)


def test_what_mmdetection_always_does_is_asked_for_without_its_config():
    cfg = load_config(str(CONFIGS / COCO / "umop_atss_R2_101_26w4s_DCN_FPN_2x_ms480-960.yaml"))
    assert contradictions(cfg, Checkpoint({}, {})) == []
    cfg.MODEL.FPN.P7_RELU = cfg.MODEL.TIMM.POOL_AT_STRIDE_1 = True
    wanted = ["MODEL.FPN.P7_RELU False", "MODEL.TIMM.POOL_AT_STRIDE_1 False"]
    assert contradictions(cfg, Checkpoint({}, {})) == wanted
