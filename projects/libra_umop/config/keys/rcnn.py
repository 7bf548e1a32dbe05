"""Keys of two-stage detectors. Their samplers bring theirs."""

from ... import ranges
from ...key import Key, declare

declare(
    "MODEL.ROI_HEADS",
    SPARSE_ROI_ALIGN=Key(
        True,
        ranges.BOOL,
        "Train on a CPU with ROIAlign as a sparse matrix product: the same values up to rounding,"
        " in a fraction of the time. No effect on other devices, in half precision or in"
        " inference.",
    ),
)
declare(
    "MODEL.ROI_HEADS.OHEM",
    NUM_HARD=Key(
        128,
        ranges.AT_LEAST_1,
        "OHEMROIHeads: how many regions of each image to learn from, those of the largest loss."
        " All proposals are ranked: `BATCH_SIZE_PER_IMAGE` and `POSITIVE_FRACTION` do not apply.",
    ),
    NMS_THRESH=Key(
        1.0,
        ranges.FRACTION,
        "Before that, regions that overlap a harder one by more than this IoU are left out; 1"
        " leaves out none: the default, as in mmdetection, with which Libra R-CNN was compared."
        " OHEM's paper has 0.7, and `NUM_HARD` 64: 128 of two images.",
    ),
)
declare(
    "MODEL.ROI_BOX_CASCADE_HEAD",
    SAMPLE_EVERY_STAGE=Key(
        False,
        ranges.BOOL,
        "LibraCascadeROIHeads: the later stages draw `BATCH_SIZE_PER_IMAGE` regions by the"
        " samplers, too, from the boxes of the stage before and, if `PROPOSAL_APPEND_GT`, the"
        " ground truth; background ends at the stage's own of `IOUS`. So the reference code;"
        " False: they learn from all of these boxes (Detectron2).",
    ),
)
declare(
    "MODEL.RPN",
    NEG_POS_RATIO=Key(
        -1.0,
        ranges.A_NUMBER,
        "LibraRPN: at most this many negatives for each positive anchor of an image, an image"
        " without a positive counting as one with one; <= 0 is no limit (the paper). The released"
        " configs use 5. Under a limit the losses are divided by the anchors used, not by"
        " `BATCH_SIZE_PER_IMAGE`.",
    ),
)
