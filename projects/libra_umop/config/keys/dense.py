"""Keys of RetinaNet, ATSS and FCOS. Their classification losses bring theirs."""

from ... import ranges
from ...key import Key, declare
from ...modeling.dense.losses.boxes.box_loss import BOX_LOSS_TYPES
from ...modeling.dense.losses.normalizers import LOSS_NORMALIZERS
from ...ranges import OneOf

NORMS = ("", "BN", "FrozenBN", "GN", "LN", "SyncBN", "naiveSyncBN", "naiveSyncBN_N", "nnSyncBN")

for _detector in ("RETINANET", "FCOS"):
    declare(
        f"MODEL.{_detector}",
        LOSS_NORMALIZER=Key(
            "moving_average",
            OneOf(LOSS_NORMALIZERS),
            'What the losses are divided by: "moving_average" of the positives (Detectron2), or'
            ' "num_positives" of the step, one per image at least (mmdetection, the released'
            " UMOP).",
        ),
    )
declare(
    "MODEL.RETINANET",
    BBOX_REG_LOSS_WEIGHT=Key(
        1.0,
        ranges.NOT_NEGATIVE,
        "LibraRetinaNet, UMOPRetinaNet: factor of the box loss, which is what Detectron2's"
        ' `BBOX_REG_LOSS_TYPE` names, "balanced_l1" among it; `SMOOTH_L1_LOSS_BETA` is the beta of'
        " both L1 losses.",
    ),
    CLIP_BEFORE_NMS=Key(
        True,
        ranges.BOOL,
        "Clip boxes to the image and drop empty ones before non-maximum suppression (the reference"
        " implementations) and not after it (Detectron2).",
    ),
)


def _towers(num_classes: str, unit: str) -> dict[str, Key]:
    """What ATSS and FCOS share. Detectron2's FCOS has no yacs keys; these are its defaults."""
    return {
        "NUM_CLASSES": Key(80, ranges.AT_LEAST_1, num_classes),
        "IN_FEATURES": Key(
            ["p3", "p4", "p5", "p6", "p7"], ranges.NAMES, "Levels of the pyramid that are searched."
        ),
        "NUM_CONVS": Key(4, ranges.AT_LEAST_1, "3x3 convolutions of each of the two towers."),
        "NORM": Key("GN", OneOf(NORMS), 'Their norm; "GN" has 32 groups.'),
        "PRIOR_PROB": Key(0.01, ranges.INSIDE, "pi, the foreground probability at the start."),
        "FOCAL_LOSS_GAMMA": Key(
            2.0,
            ranges.NOT_NEGATIVE,
            "gamma of the focal loss, beta of the quality focal loss, and gamma of the varifocal"
            " loss's negatives.",
        ),
        "FOCAL_LOSS_ALPHA": Key(0.25, ranges.FOCAL_ALPHA, "alpha of the focal loss."),
        "TOPK_CANDIDATES_TEST": Key(
            1000,
            ranges.AT_LEAST_1,
            "Candidates per level, by class score, before non-maximum suppression.",
        ),
        "NMS_THRESH_TEST": Key(0.6, ranges.FRACTION, "IoU threshold of non-maximum suppression."),
        "BBOX_REG_LOSS_TYPE": Key(
            "giou",
            OneOf(BOX_LOSS_TYPES),
            'The box loss: "giou", "diou", "ciou", or of deltas "smooth_l1" and "balanced_l1"'
            " (MODEL.BALANCED_L1).",
        ),
        "SMOOTH_L1_LOSS_BETA": Key(1.0, ranges.NOT_NEGATIVE, f"beta of both L1 losses, {unit}."),
    }


declare(
    "MODEL.ATSS",
    **_towers(
        "ATSS, UMOPATSS (<https://arxiv.org/abs/1912.02424>); GFL and VFNet read the keys of this"
        " group, too: the number of classes.",
        "on deltas times `BBOX_REG_WEIGHTS`; of GFL and VFNet on distances in sizes of the anchor",
    ),
    MATCH_TOPK=Key(
        9,
        ranges.AT_LEAST_1,
        "k, candidate anchors per box and level; anchors are MODEL.ANCHOR_GENERATOR's.",
    ),
    BBOX_REG_WEIGHTS=Key((10.0, 10.0, 5.0, 5.0), ranges.POSITIVES, "Weights on (dx, dy, dw, dh)."),
    BBOX_REG_LOSS_WEIGHT=Key(
        2.0, ranges.NOT_NEGATIVE, "Factor of the box loss; VFNet has MODEL.VFNET's."
    ),
    CENTERNESS_LOSS_WEIGHT=Key(1.0, ranges.NOT_NEGATIVE, "Factor of the centerness loss."),
    SCORE_THRESH_TEST=Key(
        0.05,
        ranges.FRACTION,
        "Threshold on the class score alone; detections are ranked by class score x centerness.",
    ),
)
declare(
    "MODEL.GFL",
    NUM_BINS=Key(
        16,
        ranges.AT_LEAST_1,
        "GFL (<https://arxiv.org/abs/2006.04388>): n, an edge's distance is a distribution over"
        " 0, 1, ... n strides.",
    ),
    DFL_LOSS_WEIGHT=Key(0.25, ranges.NOT_NEGATIVE, "Factor of the distribution focal loss."),
)
declare(
    "MODEL.VFNET",
    BBOX_REG_LOSS_WEIGHT=Key(
        1.5,
        ranges.NOT_NEGATIVE,
        "VFNet (<https://arxiv.org/abs/2008.13367>): factor of the box loss of the first boxes.",
    ),
    REFINED_BOX_REG_LOSS_WEIGHT=Key(
        2.0, ranges.NOT_NEGATIVE, "Factor of the box loss of the refined boxes."
    ),
)
declare(
    "MODEL.FCOS",
    **_towers("FCOS, UMOPFCOS: the number of classes.", "on distances in strides"),
    CENTER_SAMPLING_RADIUS=Key(
        1.5, ranges.POSITIVE, "Points this near to a box's centre, in strides, are its positives."
    ),
    BBOX_REG_LOSS_WEIGHT=Key(1.0, ranges.NOT_NEGATIVE, "Factor of the box loss."),
    SCORE_THRESH_TEST=Key(
        0.2,
        ranges.FRACTION,
        "Threshold on sqrt(class score x centerness); without centerness on the class score, where"
        " 0.05 is usual.",
    ),
)
