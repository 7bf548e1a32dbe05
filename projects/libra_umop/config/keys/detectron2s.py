"""What Detectron2's own keys may be, each by itself, which Detectron2 finds out late or never."""

from itertools import pairwise

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

from ... import ranges
from ...key import declare_range
from ...ranges import OneOf, Range, registered

INCREASING = Range(
    lambda v: all(0 <= x <= 1 for x in v) and all(a < b for a, b in pairwise(v)),
    "increasing, each in [0, 1]",
)
ANCHORS = Range(
    lambda v: (
        len(v) > 0
        and (
            ranges.POSITIVES.is_right(v)
            or all(len(x) > 0 and ranges.POSITIVES.is_right(x) for x in v)
        )
    ),
    "a list of lists of numbers above 0, none of them empty",
)
NORM_TYPE = Range(lambda v: isinstance(v, (int, float)) and v > 0, "a norm's order > 0, or inf")
SCHEDULERS = OneOf(("WarmupMultiStepLR", "WarmupCosineLR", "WarmupStepWithFixedGammaLR"))
# no RandomSubsetTrainingSampler: it reads a key that Detectron2 does not declare
SAMPLERS = OneOf(
    ("TrainingSampler", "RepeatFactorTrainingSampler", "WeightedTrainingSampler"),
    ("WeightedCategoryTrainingSampler",),
)
CROPS = OneOf(("relative", "relative_range", "absolute", "absolute_range"))
POOLERS = OneOf(("ROIAlign", "ROIAlignV2", "ROIPool", "ROIAlignRotated"))
FEATURES = Range(ranges.TEXTS.is_right, "names of the bottom-up network's features")
PROPOSALS = registered(PROPOSAL_GENERATOR_REGISTRY, "PrecomputedProposals")

declare_range("SOLVER", "IMS_PER_BATCH MAX_ITER CHECKPOINT_PERIOD", ranges.AT_LEAST_1)
declare_range("SOLVER", "BASE_LR", ranges.POSITIVE)
declare_range("SOLVER", "BASE_LR_END WARMUP_ITERS REFERENCE_WORLD_SIZE", ranges.NOT_NEGATIVE)
declare_range("SOLVER", "WEIGHT_DECAY WEIGHT_DECAY_NORM", ranges.NOT_NEGATIVE)
declare_range("SOLVER", "STEPS", ranges.FINITE)
declare_range("SOLVER", "MOMENTUM", ranges.BELOW_1)
declare_range("SOLVER", "GAMMA", ranges.PART)
declare_range("SOLVER", "WARMUP_FACTOR", ranges.FRACTION)
declare_range("SOLVER", "WARMUP_METHOD", OneOf(("linear", "constant")))
declare_range("SOLVER", "LR_SCHEDULER_NAME", SCHEDULERS)
declare_range("SOLVER.CLIP_GRADIENTS", "CLIP_TYPE", OneOf(("value", "norm", "full_model")))
declare_range("SOLVER.CLIP_GRADIENTS", "CLIP_VALUE", ranges.POSITIVE)
declare_range("SOLVER.CLIP_GRADIENTS", "NORM_TYPE", NORM_TYPE)
declare_range("DATALOADER", "NUM_WORKERS REPEAT_THRESHOLD", ranges.NOT_NEGATIVE)
declare_range("DATALOADER", "SAMPLER_TRAIN", SAMPLERS)
declare_range("INPUT", "FORMAT", OneOf(("BGR", "RGB", "L", "YUV-BT.601")))
declare_range("INPUT", "MASK_FORMAT", OneOf(("polygon", "bitmask")))
declare_range("INPUT", "MIN_SIZE_TRAIN", ranges.SIZES)
declare_range("INPUT", "MIN_SIZE_TRAIN_SAMPLING", OneOf(("choice", "range")))
declare_range(
    "INPUT", "MIN_SIZE_TEST", Range(ranges.NOT_NEGATIVE.is_right, "pixels, or 0 to keep the size")
)
declare_range("INPUT", "MAX_SIZE_TRAIN MAX_SIZE_TEST", ranges.AT_LEAST_1)
declare_range("INPUT", "RANDOM_FLIP", OneOf(("horizontal", "vertical", "none")))
declare_range("INPUT.CROP", "TYPE", CROPS)
declare_range("TEST", "DETECTIONS_PER_IMAGE", ranges.AT_LEAST_1)
declare_range("TEST", "EVAL_PERIOD", ranges.NOT_NEGATIVE)
declare_range("TEST.AUG", "MIN_SIZES", ranges.SIZES)
declare_range("TEST.AUG", "MAX_SIZE", ranges.AT_LEAST_1)
declare_range("MODEL", "META_ARCHITECTURE", registered(META_ARCH_REGISTRY))
declare_range("MODEL", "PIXEL_MEAN", ranges.FINITE)
declare_range("MODEL", "PIXEL_STD", ranges.POSITIVES)
declare_range("MODEL.BACKBONE", "NAME", registered(BACKBONE_REGISTRY))
declare_range("MODEL.ANCHOR_GENERATOR", "NAME", registered(ANCHOR_GENERATOR_REGISTRY))
declare_range("MODEL.ANCHOR_GENERATOR", "SIZES ASPECT_RATIOS", ANCHORS)
declare_range("MODEL.ANCHOR_GENERATOR", "OFFSET", ranges.BELOW_1)
declare_range("MODEL.FPN", "IN_FEATURES", FEATURES)
declare_range("MODEL.FPN", "FUSE_TYPE", OneOf(("sum", "avg")))
declare_range("MODEL.PROPOSAL_GENERATOR", "NAME", PROPOSALS)
declare_range("MODEL.RPN", "HEAD_NAME", registered(RPN_HEAD_REGISTRY))
declare_range("MODEL.RPN", "PRE_NMS_TOPK_TRAIN PRE_NMS_TOPK_TEST", ranges.AT_LEAST_1)
declare_range("MODEL.RPN", "POST_NMS_TOPK_TRAIN POST_NMS_TOPK_TEST", ranges.AT_LEAST_1)
declare_range("MODEL.RPN", "LOSS_WEIGHT BBOX_REG_LOSS_WEIGHT SMOOTH_L1_BETA", ranges.NOT_NEGATIVE)
declare_range("MODEL.RPN", "NMS_THRESH", ranges.FRACTION)
declare_range("MODEL.ROI_HEADS", "NAME", registered(ROI_HEADS_REGISTRY))
declare_range("MODEL.ROI_HEADS", "NUM_CLASSES", ranges.AT_LEAST_1)
declare_range("MODEL.ROI_HEADS", "SCORE_THRESH_TEST NMS_THRESH_TEST", ranges.FRACTION)
for _group in ("MODEL.RPN", "MODEL.ROI_HEADS"):
    declare_range(_group, "IN_FEATURES", ranges.NAMES)
    declare_range(_group, "IOU_THRESHOLDS", INCREASING)
    declare_range(_group, "BATCH_SIZE_PER_IMAGE", ranges.AT_LEAST_1)
    declare_range(_group, "POSITIVE_FRACTION", ranges.FRACTION)
for _group, _registry in {
    "MODEL.ROI_BOX_HEAD": ROI_BOX_HEAD_REGISTRY,
    "MODEL.ROI_MASK_HEAD": ROI_MASK_HEAD_REGISTRY,
    "MODEL.ROI_KEYPOINT_HEAD": ROI_KEYPOINT_HEAD_REGISTRY,
}.items():
    declare_range(_group, "NAME", registered(_registry, ""))
    declare_range(_group, "POOLER_TYPE", POOLERS)
    declare_range(_group, "POOLER_RESOLUTION", ranges.AT_LEAST_1)
    declare_range(_group, "POOLER_SAMPLING_RATIO", ranges.NOT_NEGATIVE)
declare_range("MODEL.ROI_BOX_HEAD", "NUM_CONV NUM_FC SMOOTH_L1_BETA", ranges.NOT_NEGATIVE)
declare_range("MODEL.ROI_BOX_HEAD", "BBOX_REG_LOSS_WEIGHT", ranges.NOT_NEGATIVE)
declare_range("MODEL.ROI_BOX_HEAD", "BBOX_REG_WEIGHTS", ranges.POSITIVES)
declare_range("MODEL.SEM_SEG_HEAD", "NAME", registered(SEM_SEG_HEADS_REGISTRY))
declare_range("MODEL.RETINANET", "NUM_CLASSES TOPK_CANDIDATES_TEST", ranges.AT_LEAST_1)
declare_range("MODEL.RETINANET", "IN_FEATURES", ranges.NAMES)
declare_range("MODEL.RETINANET", "IOU_THRESHOLDS", INCREASING)
declare_range("MODEL.RETINANET", "PRIOR_PROB", ranges.INSIDE)
declare_range("MODEL.RETINANET", "SCORE_THRESH_TEST NMS_THRESH_TEST", ranges.FRACTION)
declare_range("MODEL.RETINANET", "FOCAL_LOSS_GAMMA SMOOTH_L1_LOSS_BETA", ranges.NOT_NEGATIVE)
declare_range("MODEL.RETINANET", "FOCAL_LOSS_ALPHA", ranges.FOCAL_ALPHA)
