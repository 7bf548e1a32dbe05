"""What tensors cannot show: whether a config treats them as the training did that made them."""

import re

import numpy as np
from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY, GeneralizedRCNN

from .read import Checkpoint, numbers_in, word_in

__all__ = [
    "contradictions",
    "differing",
    "has_anchors",
    "imagenet_contradictions",
    "is_two_stage",
    "needed_by_mmdet",
    "remarks",
]

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


def contradictions(cfg: CfgNode, checkpoint: Checkpoint, version: int | None = None) -> list[str]:
    """``KEY VALUE`` pairs that would make ``cfg`` agree with what a file of mmdetection says.

    Read from the training config's text, where the file keeps it. Two things hold without it:
    mmdetection has no ReLU before P7 unless told to, as its VFNet is, and its Res2Net does not pool
    at stride 1.

    Args:
        version: mmdetection's major version, which the geometry of anchors and regions depends
            on; None leaves that out.
    """
    text = checkpoint.config_text
    wanted = _geometry(cfg, text, version) if version else []
    mean, std = numbers_in(text, "mean"), numbers_in(text, "std")
    if mean and std:
        is_rgb = "True" in (word_in(text, "to_rgb"), word_in(text, "bgr_to_rgb"))
        wanted += _input(cfg, "RGB" if is_rgb else "BGR", mean, std)
    style = word_in(text, "style")
    if style in ("pytorch", "caffe") and _has_resnet(cfg):
        wanted += differing(cfg, "MODEL.RESNETS.STRIDE_IN_1X1", style == "caffe")
    if _has_p7(cfg):
        # Of their detectors VFNet alone has it; a file without its config does not say.
        is_vfnet = cfg.MODEL.META_ARCHITECTURE == "VFNet"
        has_relu = word_in(text, "relu_before_extra_convs") == "True" or is_vfnet and not text
        wanted += differing(cfg, "MODEL.FPN.P7_RELU", has_relu)
        if _pyramid(cfg) == "build_retinanet_resnet_fpn_backbone" and not has_relu:
            key = "MODEL.BFP.PYRAMID" if _is_balanced(cfg) else "MODEL.BACKBONE.NAME"
            wanted.append(f"{key} build_retinanet_fpn_backbone")
    if not _has_resnet(cfg) and cfg.MODEL.TIMM.NAME.startswith("res2ne"):
        wanted += differing(cfg, "MODEL.TIMM.POOL_AT_STRIDE_1", False)
    return wanted


def _geometry(cfg: CfgNode, text: str, version: int) -> list[str]:
    """Keys of where anchors are centred, and how regions are pooled.

    Before 2.0 anchors are centred on the cell's middle and not on its corner, and RoIAlign takes
    the value of a pixel to lie at its corner. Boxes end on their last pixel there, so that x2 is 1
    less than here and the width x2 - x1 + 1 is the same: anchors, deltas and regions agree. The
    legacy settings of later versions say so themselves.
    """
    is_old = version < 2
    stated = re.search(r"\bcenter_offset\s*=\s*(\d*\.?\d+)", text)
    offset = float(stated.group(1)) if stated else 0.5 if is_old else 0.0
    wanted = differing(cfg, "MODEL.ANCHOR_GENERATOR.OFFSET", offset) if has_anchors(cfg) else []
    if not is_two_stage(cfg):
        return wanted
    is_unaligned = is_old or re.search(r"\baligned\s*=\s*False", text)
    samples = re.search(r"\b(?:sample_num|sampling_ratio)\s*=\s*(\d+)", text)
    for head in ["ROI_BOX_HEAD"] + ["ROI_MASK_HEAD"] * cfg.MODEL.MASK_ON:
        pooler = "ROIAlign" if is_unaligned else "ROIAlignV2"
        wanted += differing(cfg, f"MODEL.{head}.POOLER_TYPE", pooler)
        if samples:
            wanted += differing(cfg, f"MODEL.{head}.POOLER_SAMPLING_RATIO", int(samples.group(1)))
    return wanted


def needed_by_mmdet(cfg: CfgNode) -> list[str]:
    """What a config of mmdetection 2.x or 3.x has to say for the tensors of ``cfg``'s model."""
    lines, offset = [], cfg.MODEL.ANCHOR_GENERATOR.OFFSET
    if has_anchors(cfg) and offset != 0:
        lines.append(f"there, anchor_generator needs center_offset={offset}")
    if is_two_stage(cfg) and cfg.MODEL.ROI_BOX_HEAD.POOLER_TYPE == "ROIAlign":
        lines.append("there, roi_layer needs aligned=False")
    return lines


def imagenet_contradictions(cfg: CfgNode) -> list[str]:
    """The same for ImageNet classifiers of torchvision and timm, whose files do not say."""
    stride = differing(cfg, "MODEL.RESNETS.STRIDE_IN_1X1", False) if _has_resnet(cfg) else []
    return _input(cfg, "RGB", IMAGENET_MEAN, IMAGENET_STD) + stride


def remarks(cfg: CfgNode, checkpoint: Checkpoint, version: int | None) -> list[str]:
    """What the person should know that no key of the model's tensors can settle."""
    lines, text = [], checkpoint.config_text
    if version == 1 and has_anchors(cfg):
        lines.append(
            "mmdetection before 2.0 counts a box's width as x2 - x1 + 1, which is the same box"
            " here, and rounds the corners of its anchors to whole pixels: up to half a pixel off"
        )
    if version == 1 and is_two_stage(cfg) and "sample_num" not in text:
        lines.append(
            "the file does not say how many points a bin of RoIAlign is sampled at; before 2.0"
            " the configs had 2: MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO 2"
        )
    if not numbers_in(checkpoint.config_text, "mean"):
        lines.append(
            "the file does not say how its input was normalised; the config has"
            f" {cfg.INPUT.FORMAT} {list(cfg.MODEL.PIXEL_MEAN)} {list(cfg.MODEL.PIXEL_STD)}"
        )
    return lines


def _input(cfg: CfgNode, channels: str, mean, std) -> list[str]:
    return (
        differing(cfg, "INPUT.FORMAT", channels)
        + differing(cfg, "MODEL.PIXEL_MEAN", list(mean))
        + differing(cfg, "MODEL.PIXEL_STD", list(std))
    )


def differing(cfg: CfgNode, key: str, value) -> list[str]:
    """``["KEY VALUE"]`` if ``cfg`` has another value, numbers compared to 0.01."""
    node = cfg
    for part in key.split("."):
        node = node[part]
    if isinstance(value, list):
        same = np.shape(node) == np.shape(value) and np.allclose(node, value, rtol=0, atol=0.01)
        text = "'" + str(value).replace(" ", "") + "'"
    else:
        same, text = node == value, str(value)
    return [] if same else [f"{key} {text}"]


def _is_balanced(cfg: CfgNode) -> bool:
    return cfg.MODEL.BACKBONE.NAME == "build_bfp_backbone"


def _pyramid(cfg: CfgNode) -> str:
    return cfg.MODEL.BFP.PYRAMID if _is_balanced(cfg) else cfg.MODEL.BACKBONE.NAME


def has_anchors(cfg: CfgNode) -> bool:
    """Whether the model's boxes are relative to anchors of MODEL.ANCHOR_GENERATOR."""
    return not cfg.MODEL.META_ARCHITECTURE.endswith("FCOS")


def is_two_stage(cfg: CfgNode) -> bool:
    """Whether the model is a Faster R-CNN or one of its descendants."""
    detector = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)
    return isinstance(detector, type) and issubclass(detector, GeneralizedRCNN)


def _has_p7(cfg: CfgNode) -> bool:
    return _pyramid(cfg) in ("build_retinanet_fpn_backbone", "build_retinanet_resnet_fpn_backbone")


def _has_resnet(cfg: CfgNode) -> bool:
    return cfg.MODEL.FPN.BOTTOM_UP != "build_timm_backbone"
