"""Keys of dense detectors: UMOP, RetinaNet, ATSS, FCOS."""

from ... import ranges
from ...functional.progressive_focal_loss import FOCUS_TYPES
from ...key import Key, declare
from ...modeling.dense.losses.classification import CLS_LOSSES
from ...modeling.dense.losses.focal import LEVEL_REDUCTIONS
from ...modeling.dense.losses.normalizers import LOSS_NORMALIZERS
from ...ranges import OneOf

NORMS = ("", "BN", "FrozenBN", "GN", "LN", "SyncBN", "naiveSyncBN", "naiveSyncBN_N", "nnSyncBN")

# Level imbalance (UMOP, section 3).
declare(
    "MODEL.UMOP",
    PROGRESSIVE_FOCUS=Key(
        True,
        ranges.BOOL,
        '`CLS_LOSS_TYPE` "progressive_focal" (UMOPRetinaNet, UMOPATSS, UMOPFCOS): PFL, gamma'
        " follows the positives' mean probability, alpha = w / gamma.",
    ),
    LEVEL_WISE=Key(
        True,
        ranges.BOOL,
        "LRP: each pyramid level has a classification loss, and with PFL a gamma and alpha, of its"
        ' own; without PFL, and with `LEVEL_REDUCTION` "sum", that changes nothing.',
    ),
    FOCUS=Key(
        "mean_prob",
        OneOf(FOCUS_TYPES),
        '"mean_prob": gamma = -ln(mean p) (the paper); "mean_log": mean(-ln p) (the released'
        " code).",
    ),
    DELTA=Key(
        0.5,
        ranges.NOT_NEGATIVE,
        "delta, how far gamma may move from that detector's `FOCAL_LOSS_GAMMA`; in"
        " [0, `FOCAL_LOSS_GAMMA`).",
    ),
    W=Key(
        0.5,
        ranges.POSITIVE,
        "w, the product of gamma and alpha; in (0, `FOCAL_LOSS_GAMMA` - `DELTA`].",
    ),
    LEVEL_REDUCTION=Key(
        "sum",
        OneOf(LEVEL_REDUCTIONS),
        'LRP\'s loss: "sum" of levels, divided by all positives (the released code, and so what'
        ' every published AP was trained with), or "mean" over levels, each divided by its own'
        " positives, but by one per image at least (the paper's equation).",
    ),
)
for _detector in ("RETINANET", "ATSS", "FCOS"):
    declare(
        f"MODEL.{_detector}",
        CLS_LOSS_TYPE=Key(
            "focal",
            OneOf(CLS_LOSSES),
            'The classification loss: "focal", "progressive_focal" (what of MODEL.UMOP is on),'
            ' "ohem" (all positives, hardest negatives; RetinaNet, table 1d), or a name given to'
            " register_cls_loss. UMOPRetinaNet, UMOPATSS and UMOPFCOS have"
            ' "progressive_focal" only, which "focal" means there, too; Detectron2\'s RetinaNet'
            " has none.",
        ),
        OHEM_NEG_POS_RATIO=Key(3.0, ranges.POSITIVE, 'Negatives for each positive under "ohem".'),
    )
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


def _towers(num_classes: str) -> dict[str, Key]:
    """What ATSS and FCOS share. Detectron2's FCOS has no yacs keys; these are its defaults."""
    return {
        "NUM_CLASSES": Key(80, ranges.AT_LEAST_1, num_classes),
        "IN_FEATURES": Key(
            ["p3", "p4", "p5", "p6", "p7"], ranges.NAMES, "Levels of the pyramid that are searched."
        ),
        "NUM_CONVS": Key(4, ranges.AT_LEAST_1, "3x3 convolutions of each of the two towers."),
        "NORM": Key("GN", OneOf(NORMS), 'Their norm; "GN" has 32 groups.'),
        "PRIOR_PROB": Key(0.01, ranges.INSIDE, "pi, the foreground probability at the start."),
        "FOCAL_LOSS_GAMMA": Key(2.0, ranges.NOT_NEGATIVE, "gamma of the focal loss."),
        "FOCAL_LOSS_ALPHA": Key(0.25, ranges.FOCAL_ALPHA, "alpha of the focal loss."),
        "TOPK_CANDIDATES_TEST": Key(
            1000,
            ranges.AT_LEAST_1,
            "Candidates per level, by class score, before non-maximum suppression.",
        ),
        "NMS_THRESH_TEST": Key(0.6, ranges.FRACTION, "IoU threshold of non-maximum suppression."),
    }


declare(
    "MODEL.ATSS",
    **_towers("ATSS, UMOPATSS (<https://arxiv.org/abs/1912.02424>): the number of classes."),
    MATCH_TOPK=Key(
        9,
        ranges.AT_LEAST_1,
        "k, candidate anchors per box and level; anchors are MODEL.ANCHOR_GENERATOR's.",
    ),
    BBOX_REG_WEIGHTS=Key((10.0, 10.0, 5.0, 5.0), ranges.POSITIVES, "Weights on (dx, dy, dw, dh)."),
    BBOX_REG_LOSS_WEIGHT=Key(2.0, ranges.NOT_NEGATIVE, "Factor of the GIoU loss."),
    CENTERNESS_LOSS_WEIGHT=Key(1.0, ranges.NOT_NEGATIVE, "Factor of the centerness loss."),
    SCORE_THRESH_TEST=Key(
        0.05,
        ranges.FRACTION,
        "Threshold on the class score alone; detections are ranked by class score x centerness.",
    ),
)
declare(
    "MODEL.FCOS",
    **_towers("FCOS, UMOPFCOS: the number of classes."),
    CENTER_SAMPLING_RADIUS=Key(
        1.5, ranges.POSITIVE, "Points this near to a box's centre, in strides, are its positives."
    ),
    BBOX_REG_LOSS_WEIGHT=Key(1.0, ranges.NOT_NEGATIVE, "Factor of the GIoU loss."),
    SCORE_THRESH_TEST=Key(0.2, ranges.FRACTION, "Threshold on sqrt(class score x centerness)."),
)
