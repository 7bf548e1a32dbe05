"""Keys of backbones beyond Detectron2's own, and of pyramids over any of them.

Deformable stages of build_deform_resnet_backbone and build_timm_backbone are chosen by
Detectron2's MODEL.RESNETS.DEFORM_ON_PER_STAGE, DEFORM_MODULATED and DEFORM_NUM_GROUPS, frozen
stages by MODEL.BACKBONE.FREEZE_AT, batch norms by MODEL.RESNETS.NORM.
"""

from detectron2.modeling import BACKBONE_REGISTRY

from ... import ranges
from ...functional.balanced_pyramid import ATTENTION_PRECISIONS, REFINE_TYPES
from ...key import Key, declare
from ...ranges import OneOf, Range, registered

# Feature level: balanced feature pyramid, build_bfp_backbone (Libra R-CNN, section 3.2).
declare(
    "MODEL.BFP",
    PYRAMID=Key(
        "build_resnet_fpn_backbone",
        registered(BACKBONE_REGISTRY),
        "build_bfp_backbone: the registered pyramid that is balanced.",
    ),
    REFINE_LEVEL=Key(
        "p4", ranges.TEXT, "Name of the level at whose size the levels are averaged and refined."
    ),
    REFINE_TYPE=Key(
        "non_local",
        OneOf(REFINE_TYPES),
        '"non_local" (embedded Gaussian attention, the paper), "conv" (3x3) or "none".',
    ),
    PRECISION=Key(
        "float32",
        OneOf(ATTENTION_PRECISIONS),
        'What the attention computes in under autocast: "float32", or "autocast", the half'
        " precision of the layers around it, for which a GPU has faster kernels; its error is that"
        " of the layers beside it while features are about 1, but 20 % of the gradient where they"
        " are 10.",
    ),
)
declare(
    "MODEL.FPN",
    BOTTOM_UP=Key(
        "build_resnet_backbone",
        registered(BACKBONE_REGISTRY),
        "build_fpn_backbone, build_retinanet_fpn_backbone, and with a second path upwards"
        " (PANet) build_pafpn_backbone, build_retinanet_pafpn_backbone: registered name of the"
        " bottom-up network.",
    ),
    TOP_IN_FEATURE=Key(
        "res5",
        ranges.TEXT,
        'build_retinanet_(pa)fpn_backbone: what P6 is made from, "res5" (RetinaNet) or "p5" (ATSS,'
        " FCOS).",
    ),
    P7_RELU=Key(
        True,
        ranges.BOOL,
        "build_retinanet_(pa)fpn_backbone: ReLU between P6 and P7 (RetinaNet, section 3); the"
        " reference implementations of UMOP, ATSS and Libra R-CNN have none.",
    ),
)
declare(
    "MODEL.TIMM",
    NAME=Key(
        "res2net101_26w_4s",
        ranges.TEXT,
        "build_timm_backbone: any name of timm.list_models() that has features_only.",
    ),
    PRETRAINED=Key(
        False,
        ranges.BOOL,
        "Fetch timm's own weights of this model where MODEL.WEIGHTS is empty; needs the network"
        " once.",
    ),
    WEIGHTS=Key(
        "",
        ranges.TEXT,
        'A local file with these weights instead, read as tensors only; "" for none.',
    ),
    DROP_PATH=Key(
        0.0, ranges.BELOW_1, "Rate of stochastic depth in the last block, rising linearly from 0."
    ),
    GRAD_CHECKPOINT=Key(
        False,
        ranges.BOOL,
        "Recompute activations in the backward pass: less memory, about a third more time.",
    ),
    OUT_INDICES=Key(
        [],
        ranges.INTEGERS,
        "timm's numbers of the features to give out; empty for those that MODEL.FPN.IN_FEATURES"
        " names.",
    ),
    OUT_NORM=Key(
        "",
        OneOf(("", "LN")),
        '"LN": a layer norm on every feature (detectors on Swin); "": none.',
    ),
    POOL_AT_STRIDE_1=Key(
        True,
        ranges.BOOL,
        "Res2Net: average the last split of res2's first block over 3x3 (the authors, timm); False:"
        " pass it on (mmdetection, whose weights the published rows are).",
    ),
    ARGS=Key(
        {},
        Range(lambda v: isinstance(v, dict), "a group of keys"),
        "More arguments of the model's constructor, e.g. {window_size: 12}; see timm's source.",
    ),
)
