"""What values and names the config keys may have, each by itself."""

import math
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

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

from ..functional.balanced_l1_loss import FORMULAS
from ..functional.balanced_pyramid import ATTENTION_PRECISIONS, REFINE_TYPES
from ..functional.iou_balanced_sampling import BIN_RANGES
from ..functional.progressive_focal_loss import FOCUS_TYPES
from ..modeling.dense.losses.classification import CLS_LOSSES
from ..modeling.dense.losses.focal import LEVEL_REDUCTIONS
from ..modeling.dense.losses.normalizers import LOSS_NORMALIZERS
from ..modeling.rcnn.roi_heads import NEGATIVE_SAMPLERS, POSITIVE_SAMPLERS

Check = tuple[Callable[[Any], bool], str]


def is_number(value: Any) -> bool:
    """Whether ``value`` is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _each(check: Check, text: str) -> Check:
    return lambda values: all(check[0](v) for v in values), text


POSITIVE: Check = (lambda v: is_number(v) and v > 0, "a finite number > 0")
NOT_NEGATIVE: Check = (lambda v: is_number(v) and v >= 0, "a finite number >= 0")
FRACTION: Check = (lambda v: is_number(v) and 0 <= v <= 1, "in [0, 1]")
INSIDE: Check = (lambda v: is_number(v) and 0 < v < 1, "in (0, 1)")
BELOW_1: Check = (lambda v: is_number(v) and 0 <= v < 1, "in [0, 1)")
AT_LEAST_1: Check = (lambda v: is_number(v) and v >= 1, "at least 1")
FOCAL_ALPHA: Check = (lambda v: is_number(v) and v <= 1, "in [0, 1], or negative for none")
SIZES: Check = _each(AT_LEAST_1, "sizes in pixels, each at least 1")
POSITIVES: Check = _each(POSITIVE, "finite numbers, each > 0")
FINITE: Check = (lambda v: all(is_number(x) for x in v), "finite numbers")
A_NUMBER: Check = (is_number, "a finite number")
NAMES: Check = (lambda v: len(v) > 0 and all(isinstance(x, str) for x in v), "one name or more")
INTEGERS: Check = (lambda v: all(type(x) is int for x in v), "integers")
COCO_IOU: Check = (
    lambda v: any(abs(v - percent / 100) < 1e-6 for percent in range(50, 100, 5)),
    "one of 0.5, 0.55 ... 0.95",
)
INCREASING: Check = (
    lambda v: all(0 <= x <= 1 for x in v) and all(a < b for a, b in pairwise(v)),
    "increasing, each in [0, 1]",
)

RANGES: dict[str, Check] = {
    "SOLVER.IMS_PER_BATCH": AT_LEAST_1,
    "SOLVER.BASE_LR": POSITIVE,
    "SOLVER.BASE_LR_END": NOT_NEGATIVE,
    "SOLVER.MAX_ITER": AT_LEAST_1,
    "SOLVER.MOMENTUM": BELOW_1,
    "SOLVER.WEIGHT_DECAY": NOT_NEGATIVE,
    "SOLVER.WEIGHT_DECAY_NORM": NOT_NEGATIVE,
    "SOLVER.GAMMA": (lambda v: is_number(v) and 0 < v <= 1, "in (0, 1]"),
    "SOLVER.WARMUP_FACTOR": FRACTION,
    "SOLVER.WARMUP_ITERS": NOT_NEGATIVE,
    "SOLVER.CHECKPOINT_PERIOD": AT_LEAST_1,
    "SOLVER.CHECKPOINT_KEEP": NOT_NEGATIVE,
    "SOLVER.REFERENCE_WORLD_SIZE": NOT_NEGATIVE,
    "SOLVER.BETAS": (
        lambda v: len(v) == 2 and all(is_number(x) and 0 <= x < 1 for x in v),
        "two numbers in [0, 1)",
    ),
    "SOLVER.NO_DECAY_NAMES": (lambda v: all(isinstance(x, str) for x in v), "names"),
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
    "INPUT.MIN_SIZE_TEST": (lambda v: is_number(v) and v >= 0, "pixels, or 0 to keep the size"),
    "INPUT.MAX_SIZE_TEST": AT_LEAST_1,
    "INPUT.WHITE_16BIT": (lambda v: 1 <= v <= 65535, "in [1, 65535]"),
    "INPUT.MAX_IMAGE_PIXELS": AT_LEAST_1,
    "MODEL.PIXEL_MEAN": FINITE,
    "MODEL.PIXEL_STD": POSITIVES,
    "MODEL.ANCHOR_GENERATOR.OFFSET": BELOW_1,
    "MODEL.FPN.IN_FEATURES": (
        lambda v: all(isinstance(x, str) for x in v),
        "names of the bottom-up network's features",
    ),
    "MODEL.RPN.IN_FEATURES": NAMES,
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": AT_LEAST_1,
    "MODEL.RPN.POSITIVE_FRACTION": FRACTION,
    "MODEL.RPN.NMS_THRESH": FRACTION,
    "MODEL.RPN.IOU_THRESHOLDS": INCREASING,
    "MODEL.RPN.LOSS_WEIGHT": NOT_NEGATIVE,
    "MODEL.RPN.BBOX_REG_LOSS_WEIGHT": NOT_NEGATIVE,
    "MODEL.RPN.SMOOTH_L1_BETA": NOT_NEGATIVE,
    "MODEL.RPN.NEG_POS_RATIO": A_NUMBER,
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
    "MODEL.ROI_HEADS.OHEM.NUM_HARD": AT_LEAST_1,
    "MODEL.ROI_HEADS.OHEM.NMS_THRESH": FRACTION,
    "MODEL.ROI_HEADS.IN_FEATURES": NAMES,
    **{
        f"MODEL.ROI_{head}_HEAD.{key}": check
        for head in ("BOX", "MASK", "KEYPOINT")
        for key, check in {
            "POOLER_RESOLUTION": AT_LEAST_1,
            "POOLER_SAMPLING_RATIO": NOT_NEGATIVE,
        }.items()
    },
    "MODEL.ROI_BOX_HEAD.NUM_CONV": NOT_NEGATIVE,
    "MODEL.ROI_BOX_HEAD.NUM_FC": NOT_NEGATIVE,
    "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_WEIGHT": NOT_NEGATIVE,
    "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA": NOT_NEGATIVE,
    "MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS": POSITIVES,
    "MODEL.BALANCED_L1.ALPHA": POSITIVE,
    "MODEL.BALANCED_L1.GAMMA": POSITIVE,
    "MODEL.RETINANET.NUM_CLASSES": AT_LEAST_1,
    "MODEL.RETINANET.IN_FEATURES": NAMES,
    "MODEL.RETINANET.IOU_THRESHOLDS": INCREASING,
    "MODEL.RETINANET.PRIOR_PROB": INSIDE,
    "MODEL.RETINANET.SCORE_THRESH_TEST": FRACTION,
    "MODEL.RETINANET.NMS_THRESH_TEST": FRACTION,
    "MODEL.RETINANET.TOPK_CANDIDATES_TEST": AT_LEAST_1,
    "MODEL.RETINANET.FOCAL_LOSS_GAMMA": NOT_NEGATIVE,
    "MODEL.RETINANET.FOCAL_LOSS_ALPHA": FOCAL_ALPHA,
    "MODEL.RETINANET.SMOOTH_L1_LOSS_BETA": NOT_NEGATIVE,
    "MODEL.RETINANET.BBOX_REG_LOSS_WEIGHT": NOT_NEGATIVE,
    **{f"MODEL.{group}.OHEM_NEG_POS_RATIO": POSITIVE for group in ("RETINANET", "ATSS", "FCOS")},
    "MODEL.UMOP.DELTA": NOT_NEGATIVE,
    "MODEL.UMOP.W": POSITIVE,
    **{
        f"MODEL.{detector}.{key}": check
        for detector in ("ATSS", "FCOS")
        for key, check in {
            "NUM_CLASSES": AT_LEAST_1,
            "IN_FEATURES": NAMES,
            "NUM_CONVS": AT_LEAST_1,
            "PRIOR_PROB": INSIDE,
            "FOCAL_LOSS_GAMMA": NOT_NEGATIVE,
            "FOCAL_LOSS_ALPHA": FOCAL_ALPHA,
            "BBOX_REG_LOSS_WEIGHT": NOT_NEGATIVE,
            "SCORE_THRESH_TEST": FRACTION,
            "TOPK_CANDIDATES_TEST": AT_LEAST_1,
            "NMS_THRESH_TEST": FRACTION,
        }.items()
    },
    "MODEL.ATSS.MATCH_TOPK": AT_LEAST_1,
    "MODEL.ATSS.BBOX_REG_WEIGHTS": POSITIVES,
    "MODEL.ATSS.CENTERNESS_LOSS_WEIGHT": NOT_NEGATIVE,
    "MODEL.FCOS.CENTER_SAMPLING_RADIUS": POSITIVE,
    "MODEL.TIMM.DROP_PATH": BELOW_1,
    "MODEL.TIMM.OUT_INDICES": INTEGERS,
    "TEST.DETECTIONS_PER_IMAGE": AT_LEAST_1,
    "TEST.EVAL_PERIOD": NOT_NEGATIVE,
    "TEST.EARLY_STOPPING.PATIENCE": NOT_NEGATIVE,
    "TEST.EARLY_STOPPING.MIN_DELTA": NOT_NEGATIVE,
    "TEST.OPERATING_POINT.SCORE_THRESH": FRACTION,
    "TEST.OPERATING_POINT.IOU_THRESH": COCO_IOU,
    "TEST.AUG.MIN_SIZES": SIZES,
    "TEST.AUG.MAX_SIZE": AT_LEAST_1,
    "TEST.AUG.MAX_SIZES": SIZES,
    "ANALYSIS.PERIOD": AT_LEAST_1,
    "ANALYSIS.NUM_PROBED_NEGATIVES": NOT_NEGATIVE,
    "ANALYSIS.HARD_FRACTION": (lambda v: is_number(v) and 0 < v <= 1, "in (0, 1]"),
}

NORMS = ("", "BN", "FrozenBN", "GN", "LN", "SyncBN", "naiveSyncBN", "naiveSyncBN_N", "nnSyncBN")

POOLER_TYPES = ("ROIAlign", "ROIAlignV2", "ROIPool", "ROIAlignRotated")

CHOICES: dict[str, Iterable[str]] = {
    "MODEL.META_ARCHITECTURE": META_ARCH_REGISTRY._obj_map,
    "MODEL.BACKBONE.NAME": BACKBONE_REGISTRY._obj_map,
    "MODEL.BFP.PYRAMID": BACKBONE_REGISTRY._obj_map,
    "MODEL.FPN.BOTTOM_UP": BACKBONE_REGISTRY._obj_map,
    "MODEL.PROPOSAL_GENERATOR.NAME": PROPOSAL_GENERATOR_REGISTRY._obj_map,
    "MODEL.RPN.HEAD_NAME": RPN_HEAD_REGISTRY._obj_map,
    "MODEL.ANCHOR_GENERATOR.NAME": ANCHOR_GENERATOR_REGISTRY._obj_map,
    "MODEL.ROI_HEADS.NAME": ROI_HEADS_REGISTRY._obj_map,
    "MODEL.ROI_BOX_HEAD.NAME": ROI_BOX_HEAD_REGISTRY._obj_map,
    "MODEL.ROI_MASK_HEAD.NAME": ROI_MASK_HEAD_REGISTRY._obj_map,
    "MODEL.ROI_KEYPOINT_HEAD.NAME": ROI_KEYPOINT_HEAD_REGISTRY._obj_map,
    "MODEL.SEM_SEG_HEAD.NAME": SEM_SEG_HEADS_REGISTRY._obj_map,
    "MODEL.BFP.REFINE_TYPE": REFINE_TYPES,
    "MODEL.BFP.PRECISION": ATTENTION_PRECISIONS,
    "MODEL.BALANCED_L1.FORMULA": FORMULAS,
    "MODEL.ROI_HEADS.NEGATIVE_SAMPLER": NEGATIVE_SAMPLERS,
    "MODEL.ROI_HEADS.POSITIVE_SAMPLER": POSITIVE_SAMPLERS,
    "MODEL.ROI_HEADS.IOU_BALANCED.BIN_RANGE": BIN_RANGES,
    **{f"MODEL.{group}.CLS_LOSS_TYPE": CLS_LOSSES for group in ("RETINANET", "ATSS", "FCOS")},
    "MODEL.RETINANET.LOSS_NORMALIZER": LOSS_NORMALIZERS,
    "MODEL.FCOS.LOSS_NORMALIZER": LOSS_NORMALIZERS,
    "MODEL.UMOP.FOCUS": FOCUS_TYPES,
    "MODEL.UMOP.LEVEL_REDUCTION": LEVEL_REDUCTIONS,
    "MODEL.ATSS.NORM": NORMS,
    "MODEL.FCOS.NORM": NORMS,
    "MODEL.TIMM.OUT_NORM": ("", "LN"),
    "SOLVER.OPTIMIZER": ("SGD", "AdamW"),
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
        # no RandomSubsetTrainingSampler: it reads a key that Detectron2 does not declare
        "WeightedTrainingSampler",
        "WeightedCategoryTrainingSampler",
    ),
    "INPUT.CROP.TYPE": ("relative", "relative_range", "absolute", "absolute_range"),
    "INPUT.FORMAT": ("BGR", "RGB", "L", "YUV-BT.601"),
    "INPUT.MASK_FORMAT": ("polygon", "bitmask"),
    "MODEL.FPN.FUSE_TYPE": ("sum", "avg"),
    **{f"MODEL.ROI_{head}_HEAD.POOLER_TYPE": POOLER_TYPES for head in ("BOX", "MASK", "KEYPOINT")},
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
