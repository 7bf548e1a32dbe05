"""The tensors of torchvision's ``*_resnet50_fpn`` detectors under Detectron2's names.

What a name alone cannot tell: anchors of a location are counted ratio by ratio there and size by
size here; label 0 of their labels is the background, in the dense heads too, where nothing has it.
"""

import re
from collections.abc import Callable, Iterable

import torch
from detectron2.config import CfgNode
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES
from torch import Tensor

from ..checks import has_anchors, is_two_stage
from ..mmdet import Converted
from ..rules import Structure

__all__ = [
    "COCO_LABELS",
    "COUNTER",
    "class_names",
    "from_torchvision",
    "is_torchvision_detector",
    "num_classes_hint",
    "num_labels",
]

COCO_CLASSES = [c for c in COCO_CATEGORIES if c["isthing"]]  # 80 of the ids 1 to 90
COCO_LABELS = 91  # of torchvision's COCO detectors: background, and the ids as they are
COUNTER = re.compile(r".*\.num_batches_tracked")
RESNET = r"backbone\.body\."
RPN_HEAD = "proposal_generator.rpn_head"
ROOTS = ("backbone", "proposal_generator", "roi_heads", "head")
OUR_EPS = 1e-5  # what Detectron2's FrozenBatchNorm2d adds to the variance
SUBNETS = {"classification": "cls_subnet", "regression": "bbox_subnet"}

Rule = tuple[str, Callable[[re.Match, int], str]]  # their name, ours; the finest level's number
RULES: list[Rule] = [
    (RESNET + r"conv1\.(.+)", lambda m, _: f"stem.conv1.{m[1]}"),
    (RESNET + r"bn1\.(.+)", lambda m, _: f"stem.conv1.norm.{m[1]}"),
    (
        RESNET + r"layer(\d)\.(\d+)\.conv(\d)\.(.+)",
        lambda m, _: f"res{int(m[1]) + 1}.{m[2]}.conv{m[3]}.{m[4]}",
    ),
    (
        RESNET + r"layer(\d)\.(\d+)\.bn(\d)\.(.+)",
        lambda m, _: f"res{int(m[1]) + 1}.{m[2]}.conv{m[3]}.norm.{m[4]}",
    ),
    (
        RESNET + r"layer(\d)\.(\d+)\.downsample\.0\.(.+)",
        lambda m, _: f"res{int(m[1]) + 1}.{m[2]}.shortcut.{m[3]}",
    ),
    (
        RESNET + r"layer(\d)\.(\d+)\.downsample\.1\.(.+)",
        lambda m, _: f"res{int(m[1]) + 1}.{m[2]}.shortcut.norm.{m[3]}",
    ),
    # torchvision 0.13 put each of these convolutions into a sequence of one
    (
        r"backbone\.fpn\.inner_blocks\.(\d)\.(?:0\.)?(\w+)",
        lambda m, finest: f"backbone.fpn_lateral{finest + int(m[1])}.{m[2]}",
    ),
    (
        r"backbone\.fpn\.layer_blocks\.(\d)\.(?:0\.)?(\w+)",
        lambda m, finest: f"backbone.fpn_output{finest + int(m[1])}.{m[2]}",
    ),
    (
        r"backbone\.fpn\.extra_blocks\.p(\d)\.(\w+)",
        lambda m, _: f"backbone.top_block.p{m[1]}.{m[2]}",
    ),
    (r"rpn\.head\.conv\.(?:0\.0\.)?(\w+)", lambda m, _: f"{RPN_HEAD}.conv.{m[1]}"),
    (r"rpn\.head\.cls_logits\.(\w+)", lambda m, _: f"{RPN_HEAD}.objectness_logits.{m[1]}"),
    (r"rpn\.head\.bbox_pred\.(\w+)", lambda m, _: f"{RPN_HEAD}.anchor_deltas.{m[1]}"),
    (
        r"roi_heads\.box_head\.fc(\d)\.(\w+)",
        lambda m, _: f"roi_heads.box_head.fc{int(m[1]) - 5}.{m[2]}",
    ),
    (r"(roi_heads\.box_predictor\.(?:cls_score|bbox_pred)\.\w+)", lambda m, _: m[1]),
    (
        r"head\.(\w+)_head\.conv\.(\d)\.0\.(\w+)",  # without norms: convolution and ReLU in one
        lambda m, _: f"head.{SUBNETS[m[1]]}.{2 * int(m[2])}.{m[3]}",
    ),
    (
        r"head\.(\w+)_head\.conv\.(\d+)\.(\w+)",
        lambda m, _: f"head.{SUBNETS[m[1]]}.{m[2]}.{m[3]}",
    ),
    (r"head\.classification_head\.cls_logits\.(\w+)", lambda m, _: f"head.cls_score.{m[1]}"),
    (r"head\.regression_head\.bbox_reg\.(\w+)", lambda m, _: f"head.bbox_pred.{m[1]}"),
    (r"head\.regression_head\.bbox_ctrness\.(\w+)", lambda m, _: f"head.ctrness.{m[1]}"),
]


def is_torchvision_detector(names: Iterable[str]) -> bool:
    """Whether these are tensors' names of one of torchvision's detectors on a ResNet."""
    return any(name.startswith("backbone.body.") for name in names)


def from_torchvision(
    cfg: CfgNode,
    shapes: dict[str, torch.Size],
    theirs: dict[str, Tensor],
    norm_eps: float,
) -> Converted:
    """The tensors of a model here out of those of a torchvision detector.

    Args:
        cfg: the config whose model they are for. Its number of classes says what becomes of their
            labels, see :func:`_labels`.
        shapes: name to shape of every tensor of that model that is wanted.
        theirs: by their names.
        norm_eps: what their batch norms add to the variance. Here it is 1e-5: the difference goes
            into the variances.
    """
    structure = Structure.of(cfg, shapes)
    named = {_our_name(name, structure.finest_level): name for name in theirs}
    tensors, missing = {}, []
    for name, shape in shapes.items():
        source = named.get(name)
        if source is None:
            missing.append(name)
            continue
        tensor = _as_here(name, theirs[source], cfg, structure, norm_eps)
        if tensor.shape == shape:
            tensors[name] = tensor.clone()
        else:
            found, wanted = tuple(theirs[source].shape), tuple(shape)
            missing.append(f"{name} (there: {source} of shape {found}, wanted {wanted})")
    rest = sorted(source for name, source in named.items() if name not in shapes)
    return Converted(tensors, missing, [n for n in rest if not COUNTER.fullmatch(n)], {}, [])


def num_labels(theirs: dict[str, Tensor]) -> int:
    """How many labels a detector of theirs tells apart, the background among them."""
    scores = theirs.get("roi_heads.box_predictor.cls_score.bias")
    if scores is not None:
        return len(scores)
    logits = theirs.get("head.classification_head.cls_logits.bias")
    deltas = theirs.get("head.regression_head.bbox_reg.bias")
    return 0 if logits is None or deltas is None else 4 * len(logits) // len(deltas)


def class_names(cfg: CfgNode, theirs: dict[str, Tensor]) -> list[str]:
    """COCO's, where its 80 classes were taken out of the 91 labels; else none are known."""
    is_coco = (_num_classes(cfg), num_labels(theirs)) == (len(COCO_CLASSES), COCO_LABELS)
    return [c["name"] for c in COCO_CLASSES] if is_coco else []


def num_classes_hint(cfg: CfgNode, theirs: dict[str, Tensor]) -> str:
    """What the config's number of classes should be, as the end of a sentence; "" if it fits."""
    labels, group = num_labels(theirs), _group(cfg)
    fits = len(_labels(_num_classes(cfg), labels)) == _num_classes(cfg)
    if not labels or fits:
        return ""
    should = f"MODEL.{group}.NUM_CLASSES is {_num_classes(cfg)}, should be {labels - 1}"
    return f"tells {labels} labels apart, one of them the background: {should}"


def _group(cfg: CfgNode) -> str:
    return "ROI_HEADS" if is_two_stage(cfg) else "RETINANET" if has_anchors(cfg) else "FCOS"


def _num_classes(cfg: CfgNode) -> int:
    return cfg.MODEL[_group(cfg)].NUM_CLASSES


def _our_name(name: str, finest_level: int) -> str:
    """Our name of one tensor of theirs; the name itself if there is none."""
    for pattern, template in RULES:
        match = re.fullmatch(pattern, name)
        if match:
            ours = template(match, finest_level)
            return ours if ours.split(".")[0] in ROOTS else f"backbone.bottom_up.{ours}"
    return name


def _as_here(
    name: str, tensor: Tensor, cfg: CfgNode, structure: Structure, norm_eps: float
) -> Tensor:
    """One tensor of theirs as the one named ``name`` here is stored."""
    if name.endswith(".running_var"):
        return tensor + (norm_eps - OUR_EPS)
    if name.startswith(f"{RPN_HEAD}.objectness_logits"):
        return structure.anchors(1).to_ours(tensor)
    if name.startswith(f"{RPN_HEAD}.anchor_deltas"):
        return structure.anchors(4).to_ours(tensor)
    if name.startswith("roi_heads.box_predictor."):
        is_score = ".cls_score." in name
        labels = tensor.unflatten(0, (-1, 1 if is_score else 4))  # (K + 1, 1 or 4, ...)
        kept = _labels(_num_classes(cfg), len(labels))
        return labels[kept + [0] if is_score else kept].flatten(0, 1)
    num_anchors = structure.num_sizes * structure.num_ratios if has_anchors(cfg) else 1
    if name.startswith("head.bbox_pred."):
        return structure.anchors(4).to_ours(tensor) if has_anchors(cfg) else tensor
    if name.startswith("head.cls_score.") and len(tensor) % num_anchors == 0:
        labels = tensor.unflatten(0, (num_anchors, -1))  # (A, K, ...)
        kept = _labels(_num_classes(cfg), labels.shape[1])
        rows = labels[:, kept].flatten(0, 1)
        return structure.anchors(len(kept)).to_ours(rows) if has_anchors(cfg) else rows
    return tensor


def _labels(num_classes: int, there: int) -> list[int]:
    """Which of their labels the classes here are.

    All without the background, which is 0; all, where a dense head here has as many; and COCO's 80
    of the 91 of the published detectors, which are COCO's ids. Else all, for the shape to tell.
    """
    if (num_classes, there) == (len(COCO_CLASSES), COCO_LABELS):
        return [c["id"] for c in COCO_CLASSES]
    return list(range(0 if num_classes == there else 1, there))
