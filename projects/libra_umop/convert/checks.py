"""What tensors cannot show: whether a config treats them as the training did that made them."""

from typing import List

from detectron2.config import CfgNode

from .read import Checkpoint, numbers_in, word_in

__all__ = ["contradictions", "imagenet_contradictions", "remarks"]

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


def contradictions(cfg: CfgNode, checkpoint: Checkpoint) -> List[str]:
    """``KEY VALUE`` pairs that would make ``cfg`` agree with what a file of mmdetection says.

    Read from the training config's text, where the file keeps it. Two things hold without it:
    mmdetection has no ReLU before P7 unless told to, and its Res2Net does not pool at stride 1.
    """
    text = checkpoint.config_text
    wanted = []
    mean, std = numbers_in(text, "mean"), numbers_in(text, "std")
    if mean and std:
        is_rgb = "True" in (word_in(text, "to_rgb"), word_in(text, "bgr_to_rgb"))
        wanted += _input(cfg, "RGB" if is_rgb else "BGR", mean, std)
    style = word_in(text, "style")
    if style in ("pytorch", "caffe") and _has_resnet(cfg):
        wanted += _key(cfg, "MODEL.RESNETS.STRIDE_IN_1X1", style == "caffe")
    if _has_p7(cfg):
        has_relu = word_in(text, "relu_before_extra_convs") == "True"
        wanted += _key(cfg, "MODEL.FPN.P7_RELU", has_relu)
        if _pyramid(cfg) == "build_retinanet_resnet_fpn_backbone" and not has_relu:
            key = "MODEL.BFP.PYRAMID" if _is_balanced(cfg) else "MODEL.BACKBONE.NAME"
            wanted.append(f"{key} build_retinanet_fpn_backbone")
    if not _has_resnet(cfg) and cfg.MODEL.TIMM.NAME.startswith("res2ne"):
        wanted += _key(cfg, "MODEL.TIMM.POOL_AT_STRIDE_1", False)
    return wanted


def imagenet_contradictions(cfg: CfgNode) -> List[str]:
    """The same for ImageNet classifiers of torchvision and timm, whose files do not say."""
    stride = _key(cfg, "MODEL.RESNETS.STRIDE_IN_1X1", False) if _has_resnet(cfg) else []
    return _input(cfg, "RGB", IMAGENET_MEAN, IMAGENET_STD) + stride


def remarks(cfg: CfgNode, checkpoint: Checkpoint) -> List[str]:
    """What the person should know that no key of the model's tensors can settle."""
    lines = []
    if checkpoint.version.split(".")[0] in ("0", "1"):
        lines.append(
            "mmdetection before 2.0 counts a box's width as x2 - x1 + 1, and its RoIAlign is not"
            " aligned: scores will differ a little; MODEL.ROI_BOX_HEAD.POOLER_TYPE ROIAlign comes"
            " closer"
        )
    if not numbers_in(checkpoint.config_text, "mean"):
        lines.append(
            "the file does not say how its input was normalised; the config has"
            f" {cfg.INPUT.FORMAT} {list(cfg.MODEL.PIXEL_MEAN)} {list(cfg.MODEL.PIXEL_STD)}"
        )
    return lines


def _input(cfg: CfgNode, channels: str, mean, std) -> List[str]:
    return (
        _key(cfg, "INPUT.FORMAT", channels)
        + _key(cfg, "MODEL.PIXEL_MEAN", list(mean))
        + _key(cfg, "MODEL.PIXEL_STD", list(std))
    )


def _key(cfg: CfgNode, key: str, value) -> List[str]:
    """``["KEY VALUE"]`` if ``cfg`` has another value, numbers compared to 0.01."""
    node = cfg
    for part in key.split("."):
        node = node[part]
    if isinstance(value, list):
        same = len(node) == len(value) and all(abs(a - b) < 0.01 for a, b in zip(node, value))
        text = "'" + str(value).replace(" ", "") + "'"
    else:
        same, text = node == value, str(value)
    return [] if same else [f"{key} {text}"]


def _is_balanced(cfg: CfgNode) -> bool:
    return cfg.MODEL.BACKBONE.NAME == "build_bfp_backbone"


def _pyramid(cfg: CfgNode) -> str:
    return cfg.MODEL.BFP.PYRAMID if _is_balanced(cfg) else cfg.MODEL.BACKBONE.NAME


def _has_p7(cfg: CfgNode) -> bool:
    return _pyramid(cfg) in ("build_retinanet_fpn_backbone", "build_retinanet_resnet_fpn_backbone")


def _has_resnet(cfg: CfgNode) -> bool:
    return cfg.MODEL.FPN.BOTTOM_UP != "build_timm_backbone"
