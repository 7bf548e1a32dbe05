"""Ranges of numeric keys and names of registered components, checked before anything is built."""

import difflib
import math
from typing import Any, Callable, Dict, Iterable, Optional, Tuple

import torch
from detectron2.config import CfgNode
from detectron2.modeling import (
    ANCHOR_GENERATOR_REGISTRY,
    BACKBONE_REGISTRY,
    META_ARCH_REGISTRY,
    PROPOSAL_GENERATOR_REGISTRY,
    ROI_BOX_HEAD_REGISTRY,
    ROI_HEADS_REGISTRY,
    ROI_KEYPOINT_HEAD_REGISTRY,
    ROI_MASK_HEAD_REGISTRY,
    SEM_SEG_HEADS_REGISTRY,
)
from detectron2.modeling.proposal_generator import RPN_HEAD_REGISTRY

from .errors import ConfigError

Check = Tuple[Callable[[Any], bool], str]


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _each(check: Check, text: str) -> Check:
    return lambda values: all(check[0](v) for v in values), text


POSITIVE: Check = (lambda v: _number(v) and v > 0, "a finite number > 0")
NOT_NEGATIVE: Check = (lambda v: _number(v) and v >= 0, "a finite number >= 0")
FRACTION: Check = (lambda v: _number(v) and 0 <= v <= 1, "in [0, 1]")
INSIDE: Check = (lambda v: _number(v) and 0 < v < 1, "in (0, 1)")
BELOW_1: Check = (lambda v: _number(v) and 0 <= v < 1, "in [0, 1)")
AT_LEAST_1: Check = (lambda v: _number(v) and v >= 1, "at least 1")
FOCAL_ALPHA: Check = (lambda v: _number(v) and (v < 0 or v <= 1), "in [0, 1], or negative for none")
SIZES: Check = _each(AT_LEAST_1, "sizes in pixels, each at least 1")
POSITIVES: Check = _each(POSITIVE, "finite numbers, each > 0")
FINITE: Check = (lambda v: all(_number(x) for x in v), "finite numbers")
INCREASING: Check = (
    lambda v: all(0 <= x <= 1 for x in v) and all(a < b for a, b in zip(v, v[1:])),
    "increasing, each in [0, 1]",
)

RANGES: Dict[str, Check] = {
    "SOLVER.IMS_PER_BATCH": AT_LEAST_1,
    "SOLVER.BASE_LR": POSITIVE,
    "SOLVER.BASE_LR_END": NOT_NEGATIVE,
    "SOLVER.MAX_ITER": AT_LEAST_1,
    "SOLVER.MOMENTUM": BELOW_1,
    "SOLVER.WEIGHT_DECAY": NOT_NEGATIVE,
    "SOLVER.WEIGHT_DECAY_NORM": NOT_NEGATIVE,
    "SOLVER.GAMMA": (lambda v: _number(v) and 0 < v <= 1, "in (0, 1]"),
    "SOLVER.WARMUP_FACTOR": FRACTION,
    "SOLVER.WARMUP_ITERS": NOT_NEGATIVE,
    "SOLVER.CHECKPOINT_PERIOD": AT_LEAST_1,
    "SOLVER.REFERENCE_WORLD_SIZE": NOT_NEGATIVE,
    "SOLVER.GRADIENT_ACCUMULATION": AT_LEAST_1,
    "SOLVER.EMA.DECAY": BELOW_1,
    "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": POSITIVE,
    "SOLVER.CLIP_GRADIENTS.NORM_TYPE": (
        lambda v: isinstance(v, (int, float)) and v > 0,
        "a norm's order > 0, or inf",
    ),
    "DATALOADER.NUM_WORKERS": NOT_NEGATIVE,
    "DATALOADER.REPEAT_THRESHOLD": NOT_NEGATIVE,
    "INPUT.MIN_SIZE_TRAIN": SIZES,
    "INPUT.MAX_SIZE_TRAIN": AT_LEAST_1,
    "INPUT.MIN_SIZE_TEST": (lambda v: _number(v) and v >= 0, "pixels, or 0 to keep the size"),
    "INPUT.MAX_SIZE_TEST": AT_LEAST_1,
    "MODEL.PIXEL_MEAN": FINITE,
    "MODEL.PIXEL_STD": POSITIVES,
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": AT_LEAST_1,
    "MODEL.RPN.POSITIVE_FRACTION": FRACTION,
    "MODEL.RPN.NMS_THRESH": FRACTION,
    "MODEL.RPN.IOU_THRESHOLDS": INCREASING,
    "MODEL.RPN.LOSS_WEIGHT": NOT_NEGATIVE,
    "MODEL.RPN.BBOX_REG_LOSS_WEIGHT": NOT_NEGATIVE,
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": AT_LEAST_1,
    "MODEL.RPN.PRE_NMS_TOPK_TEST": AT_LEAST_1,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": AT_LEAST_1,
    "MODEL.RPN.POST_NMS_TOPK_TEST": AT_LEAST_1,
    "MODEL.ROI_HEADS.NUM_CLASSES": AT_LEAST_1,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": AT_LEAST_1,
    "MODEL.ROI_HEADS.POSITIVE_FRACTION": FRACTION,
    "MODEL.ROI_HEADS.IOU_THRESHOLDS": INCREASING,
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": FRACTION,
    "MODEL.ROI_HEADS.NMS_THRESH_TEST": FRACTION,
    "MODEL.ROI_HEADS.IOU_BALANCED.NUM_BINS": AT_LEAST_1,
    "MODEL.ROI_HEADS.IOU_BALANCED.FLOOR_IOU": BELOW_1,
    "MODEL.ROI_HEADS.IOU_BALANCED.FLOOR_FRACTION": FRACTION,
    "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_WEIGHT": NOT_NEGATIVE,
    "MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS": POSITIVES,
    "MODEL.BALANCED_L1.ALPHA": POSITIVE,
    "MODEL.BALANCED_L1.GAMMA": POSITIVE,
    "MODEL.RETINANET.NUM_CLASSES": AT_LEAST_1,
    "MODEL.RETINANET.IOU_THRESHOLDS": INCREASING,
    "MODEL.RETINANET.PRIOR_PROB": INSIDE,
    "MODEL.RETINANET.SCORE_THRESH_TEST": FRACTION,
    "MODEL.RETINANET.NMS_THRESH_TEST": FRACTION,
    "MODEL.RETINANET.TOPK_CANDIDATES_TEST": AT_LEAST_1,
    "MODEL.RETINANET.FOCAL_LOSS_GAMMA": NOT_NEGATIVE,
    "MODEL.RETINANET.FOCAL_LOSS_ALPHA": FOCAL_ALPHA,
    "TEST.DETECTIONS_PER_IMAGE": AT_LEAST_1,
    "TEST.EVAL_PERIOD": NOT_NEGATIVE,
    "TEST.EARLY_STOPPING.PATIENCE": NOT_NEGATIVE,
    "TEST.EARLY_STOPPING.MIN_DELTA": NOT_NEGATIVE,
    "TEST.OPERATING_POINT.SCORE_THRESH": FRACTION,
    "TEST.OPERATING_POINT.IOU_THRESH": FRACTION,
    "TEST.AUG.MIN_SIZES": SIZES,
    "TEST.AUG.MAX_SIZE": AT_LEAST_1,
}

CHOICES: Dict[str, Iterable[str]] = {
    "MODEL.META_ARCHITECTURE": META_ARCH_REGISTRY._obj_map,
    "MODEL.BACKBONE.NAME": BACKBONE_REGISTRY._obj_map,
    "MODEL.BFP.PYRAMID": BACKBONE_REGISTRY._obj_map,
    "MODEL.PROPOSAL_GENERATOR.NAME": PROPOSAL_GENERATOR_REGISTRY._obj_map,
    "MODEL.RPN.HEAD_NAME": RPN_HEAD_REGISTRY._obj_map,
    "MODEL.ANCHOR_GENERATOR.NAME": ANCHOR_GENERATOR_REGISTRY._obj_map,
    "MODEL.ROI_HEADS.NAME": ROI_HEADS_REGISTRY._obj_map,
    "MODEL.ROI_BOX_HEAD.NAME": ROI_BOX_HEAD_REGISTRY._obj_map,
    "MODEL.ROI_MASK_HEAD.NAME": ROI_MASK_HEAD_REGISTRY._obj_map,
    "MODEL.ROI_KEYPOINT_HEAD.NAME": ROI_KEYPOINT_HEAD_REGISTRY._obj_map,
    "MODEL.SEM_SEG_HEAD.NAME": SEM_SEG_HEADS_REGISTRY._obj_map,
    "MODEL.BFP.REFINE_TYPE": ("non_local", "conv", "none"),
    "MODEL.BALANCED_L1.FORMULA": ("exact", "reference"),
    "MODEL.ROI_HEADS.NEGATIVE_SAMPLER": ("random", "iou_balanced"),
    "MODEL.ROI_HEADS.POSITIVE_SAMPLER": ("random", "instance_balanced"),
    "MODEL.ROI_HEADS.IOU_BALANCED.BIN_RANGE": ("threshold", "observed"),
    "SOLVER.LR_SCHEDULER_NAME": (
        "WarmupMultiStepLR",
        "WarmupCosineLR",
        "WarmupStepWithFixedGammaLR",
    ),
    "SOLVER.AMP.DTYPE": ("float16", "bfloat16"),
    "TEST.BEST_CHECKPOINT.MODE": ("max", "min"),
    "SOLVER.WARMUP_METHOD": ("linear", "constant"),
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": ("value", "norm", "full_model"),
    "DATALOADER.SAMPLER_TRAIN": (
        "TrainingSampler",
        "RepeatFactorTrainingSampler",
        "RandomSubsetTrainingSampler",
        "WeightedTrainingSampler",
        "WeightedCategoryTrainingSampler",
    ),
    "INPUT.RANDOM_FLIP": ("horizontal", "vertical", "none"),
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": ("choice", "range"),
}

# Names that Detectron2 understands beside what the registries hold.
EXTRA_CHOICES = {
    "MODEL.PROPOSAL_GENERATOR.NAME": ("PrecomputedProposals",),
    "MODEL.ROI_BOX_HEAD.NAME": ("",),
    "MODEL.ROI_MASK_HEAD.NAME": ("",),
    "MODEL.ROI_KEYPOINT_HEAD.NAME": ("",),
}


def check_config(cfg: CfgNode, source: str = "") -> None:
    """Refuse a config that cannot train, before anything is built.

    Args:
        cfg: a merged config.
        source: the file that it came from, for the message.

    Raises:
        ConfigError: one line with the key, its value, what it should be, and for a name the
            nearest one that exists.
    """
    where = f"{source}: " if source else ""
    for key, (is_right, expected) in RANGES.items():
        value = _get(cfg, key)
        if value is not None and not _holds(is_right, value):
            raise ConfigError(f"{where}{key} is {value!r}, should be {expected}")
    for key, names in CHOICES.items():
        value = _get(cfg, key)
        if value is not None:
            _check_choice(where, key, value, [name for name, _ in _pairs(names)])
    _check_steps(cfg, where)
    _check_device(cfg, where)


def _pairs(names) -> Iterable[Tuple[str, Any]]:
    return names.items() if isinstance(names, dict) else ((name, None) for name in names)


def _holds(is_right: Callable[[Any], bool], value: Any) -> bool:
    try:
        return bool(is_right(value))
    except TypeError:
        return False


def _get(cfg: CfgNode, key: str) -> Optional[Any]:
    node: Any = cfg
    for part in key.split("."):
        if not isinstance(node, CfgNode) or part not in node:
            return None
        node = node[part]
    return node


def _check_choice(where: str, key: str, value: str, names: list) -> None:
    names = names + list(EXTRA_CHOICES.get(key, ()))
    if value in names:
        return
    near = difflib.get_close_matches(str(value), names, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ConfigError(
        f"{where}{key} is {value!r}{hint} (known: {', '.join(n for n in sorted(names) if n)})"
    )


def _check_steps(cfg: CfgNode, where: str) -> None:
    """STEPS are read by the multi-step schedule only; there one past the end never happens."""
    steps, max_iter = cfg.SOLVER.STEPS, cfg.SOLVER.MAX_ITER
    if cfg.SOLVER.LR_SCHEDULER_NAME != "WarmupMultiStepLR":
        return
    ok = all(_number(s) and 0 < s < max_iter for s in steps)
    if not ok or any(a >= b for a, b in zip(steps, steps[1:])):
        raise ConfigError(
            f"{where}SOLVER.STEPS is {tuple(steps)!r}, should be increasing and inside"
            f" (0, SOLVER.MAX_ITER) = (0, {max_iter}); \"()\" for none"
        )


def _check_device(cfg: CfgNode, where: str) -> None:
    try:
        torch.device(cfg.MODEL.DEVICE)
    except RuntimeError as e:
        raise ConfigError(
            f"{where}MODEL.DEVICE is {cfg.MODEL.DEVICE!r}, should be cpu, cuda or cuda:N"
        ) from e
