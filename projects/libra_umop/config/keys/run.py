"""Keys of a run: optimizer and schedule, data, training, evaluation, measuring the imbalance."""

from ... import ranges
from ...key import Key, declare
from ...modeling.tta.view_merging import NMS_TYPES
from ...ranges import OneOf, Range, is_number

BETAS = Range(
    lambda v: len(v) == 2 and all(is_number(x) and 0 <= x < 1 for x in v), "two numbers in [0, 1)"
)
SIZE_RANGES = Range(
    lambda v: all(len(x) == 2 and all(map(is_number, x)) and 0 <= x[0] < x[1] for x in v),
    "pairs of sizes in pixels, the smaller first",
)
SCALES = Range(
    lambda v: len(v) == 0 or len(v) == 2 and all(map(is_number, v)) and 0 < v[0] <= v[1],
    "empty, or two numbers, the first above 0 and not above the second",
)
COCO_IOU = Range(
    lambda v: any(abs(v - percent / 100) < 1e-6 for percent in range(50, 100, 5)),
    "one of 0.5, 0.55 ... 0.95",
)

declare(
    "SOLVER",
    OPTIMIZER=Key("SGD", OneOf(("SGD", "AdamW")), '"SGD" (Detectron2\'s) or "AdamW".'),
    BETAS=Key(
        [0.9, 0.999],
        BETAS,
        "AdamW: beta_1 and beta_2, decay of the gradient's first and second moment.",
    ),
    NO_DECAY_NAMES=Key(
        [],
        ranges.TEXTS,
        "Parameters of these names (last part) get no weight decay, e.g."
        " relative_position_bias_table; those of norms follow `WEIGHT_DECAY_NORM`, biases"
        " `WEIGHT_DECAY_BIAS`.",
    ),
    GRADIENT_ACCUMULATION=Key(
        1,
        ranges.AT_LEAST_1,
        "Each process computes its share of `IMS_PER_BATCH` in this many parts and sums their"
        " gradients before one optimizer step; it must divide `IMS_PER_BATCH` / processes. The"
        " mean of the parts' losses is what is minimised.",
    ),
    CHECKPOINT_KEEP=Key(
        0,
        ranges.NOT_NEGATIVE,
        "How many of the checkpoints `model_<iteration>.pth` stay, the newest ones;"
        " `model_final.pth` and `model_best.pth` are kept beside them. 0: all of them, as in"
        " Detectron2; --epochs makes that 2.",
    ),
)
declare(
    "SOLVER.AMP",
    DTYPE=Key(
        "float16",
        OneOf(("float16", "bfloat16")),
        'Type of autocast where SOLVER.AMP.ENABLED: "float16" (with loss scaling; CUDA only) or'
        ' "bfloat16" (without; CUDA and CPU).',
    ),
)
declare(
    "SOLVER.EMA",
    ENABLED=Key(
        False,
        ranges.BOOL,
        "Exponential moving average of the weights (torch.optim.swa_utils). Where on, it is what is"
        ' evaluated, and what a checkpoint\'s "model" holds.',
    ),
    DECAY=Key(
        0.998,
        ranges.BELOW_1,
        "Weight of the average so far in each iteration; 0.998 forgets in about 500 iterations.",
    ),
)
declare(
    "DATALOADER",
    PIN_MEMORY=Key(
        False,
        ranges.BOOL,
        "On CUDA, training batches go to the GPU from page-locked memory and before the model asks"
        " for them, so that the host does not wait for the copies. Off: no gain was shown on a GPU."
        " Without effect on the CPU, and where VIS_PERIOD draws the batches.",
    ),
)
declare(
    "INPUT",
    IGNORE_REGIONS=Key(
        False,
        ranges.BOOL,
        "Learn nothing from what lies in a crowd region (`iscrowd` or `ignore` of annotations,"
        " `difficult` of VOC): an anchor or proposal of which a region covers half or more is"
        " neither positive nor negative. Off, as in Detectron2, objects there that nobody labelled"
        " are negatives, and hard ones. Every detector of this project knows it, of a two-stage"
        " one LibraRPN and the Libra and OHEM heads.",
    ),
    WHITE_16BIT=Key(
        65535,
        Range(lambda v: 1 <= v <= 65535, "in [1, 65535]"),
        "Value of 16-bit images that becomes 255, darker ones linearly: 65535 shows the whole"
        " range, 4095 that of a 12-bit camera.",
    ),
    MAX_IMAGE_PIXELS=Key(
        500_000_000,
        ranges.AT_LEAST_1,
        "Largest image that is read, width x height, against running out of memory: an image takes"
        " 3 bytes a pixel in each worker, and twice that while it is resized.",
    ),
    COLOR_JITTER=Key(
        0.0,
        ranges.FRACTION,
        "Brightness, contrast and saturation are each multiplied by a number in [1 - this,"
        " 1 + this] in training, by Detectron2's transforms; 0.4 is strong.",
    ),
    SCALE_JITTER=Key(
        [],
        SCALES,
        "Smallest and largest scale of large scale jitter, e.g. [0.1, 2.0], instead of"
        " `MIN_SIZE_TRAIN`: the image is fitted into a square of `MAX_SIZE_TRAIN` pixels, resized"
        " by a random scale, and cropped where it then is larger than the square; empty: off.",
    ),
)
declare(
    "INPUT.MOSAIC",
    PROB=Key(
        0.0,
        ranges.FRACTION,
        "How probably a training sample is a mosaic of four images (YOLOv4), each made as it is"
        " alone, in the size of the first. Of an object that a border cuts at least a tenth of the"
        " box and 2 pixels a side have to be left, or it is dropped.",
    ),
    UNTIL=Key(
        0.9,
        ranges.FRACTION,
        "Part of `SOLVER.MAX_ITER` after which there are none, so that training ends on images as"
        " they are.",
    ),
)
declare(
    "INPUT.CROP",
    OBJECT_PROB=Key(
        0.0,
        ranges.FRACTION,
        "How probably `INPUT.CROP` is placed so that it shows a random object of the image, whole"
        " where it fits, instead of anywhere: for large images, of which most crops are empty.",
    ),
)
declare(
    "MODEL",
    CHANNELS_LAST=Key(
        False,
        ranges.BOOL,
        "Train with convolutions in channels-last memory: the same weights, on a CPU in less time.",
    ),
    COMPILE=Key(
        False,
        ranges.BOOL,
        "Training steps with backbone, convolutional heads and the losses of dense detectors under"
        " torch.compile, in channels-last memory; the first one takes a minute. Needs a C++"
        " compiler.",
    ),
)
declare(
    "TEST.BEST_CHECKPOINT",
    ENABLED=Key(
        True, ranges.BOOL, "Keep the weights of the best evaluation so far as `model_best.pth`."
    ),
    METRIC=Key(
        "bbox/AP",
        ranges.TEXT,
        "Name of the metric as it stands in metrics.json. With several test sets it is the first"
        " set's, unless the name begins with that of a set.",
    ),
    MODE=Key("max", OneOf(("max", "min")), 'Whether "max" or "min" of it is best.'),
)
declare(
    "TEST.EARLY_STOPPING",
    PATIENCE=Key(
        0,
        ranges.NOT_NEGATIVE,
        "End training after this many evaluations in a row in which the metric of"
        " TEST.BEST_CHECKPOINT was not better than the best by `MIN_DELTA`; 0 never ends early.",
    ),
    MIN_DELTA=Key(0.0, ranges.NOT_NEGATIVE, "In the metric's unit."),
)
declare(
    "TEST.VAL_LOSS",
    ENABLED=Key(
        False,
        ranges.BOOL,
        "Losses over DATASETS.TEST at every evaluation, as `val/<loss>` and `val/total_loss`.",
    ),
)
declare(
    "TEST.OPERATING_POINT",
    ENABLED=Key(
        False,
        ranges.BOOL,
        "Precision, recall and F1 (percent, all classes pooled) of the detections with at least"
        " `SCORE_THRESH`, a detection being right at box IoU >= `IOU_THRESH`.",
    ),
    SCORE_THRESH=Key(0.5, ranges.FRACTION, "Least score of a detection that counts."),
    IOU_THRESH=Key(0.5, COCO_IOU, "Least box IoU at which it is right."),
)
declare(
    "TEST.TILES",
    SIZE=Key(
        0,
        Range(lambda v: type(v) is int and (v == 0 or v >= 32), "0, or 32 pixels or more"),
        "Side of the tiles, in pixels of the image, that large images are evaluated and predicted"
        " in, each resized by `INPUT.MIN_SIZE_TEST` like an image of its own; 0: whole images."
        " Boxes only.",
    ),
    OVERLAP=Key(
        0.2,
        Range(lambda v: is_number(v) and 0 <= v <= 0.9, "in [0, 0.9]"),
        "Of neighbouring tiles, as a part of `SIZE`; objects that are smaller are whole in one.",
    ),
)
declare(
    "TEST.AUG",
    MAX_SIZES=Key(
        (),
        ranges.SIZES,
        "Multi-scale and flip testing of every detector here: longest side of each of"
        " TEST.AUG.MIN_SIZES, in pixels; empty: TEST.AUG.MAX_SIZE for all.",
    ),
    SCALE_RANGES=Key(
        (),
        SIZE_RANGES,
        "Of each of TEST.AUG.MIN_SIZES, the least and the largest size of the objects that it is"
        " for, as small views find large objects better and large views small ones: square roots of"
        " areas in pixels of the original image; empty: all sizes.",
    ),
    NMS_TYPE=Key(
        "hard",
        OneOf(NMS_TYPES),
        'How the views\' detections are suppressed: "hard" (NMS), or soft-NMS (Bodla et al., ICCV'
        ' 2017), by which what overlaps a better box of its class loses score: "linear", by 1 - IoU'
        ' from the detector\'s NMS threshold on, or "gaussian", by exp(-IoU^2 / `SOFT_NMS_SIGMA`).',
    ),
    SOFT_NMS_SIGMA=Key(0.5, ranges.POSITIVE, 'sigma of `NMS_TYPE` "gaussian".'),
    VOTE_THRESH=Key(
        1.0,
        ranges.PART,
        "Box voting (Gidaris & Komodakis, ICCV 2015): what is kept becomes the mean, weighted by"
        " score, of all the views' boxes of its class that overlap it by this IoU or more; 1: no"
        " voting.",
    ),
)
declare(
    "WANDB",
    ENABLED=Key(
        False,
        ranges.BOOL,
        'Weights & Biases, fed from the tensorboard files (needs the extra "wandb").',
    ),
    PROJECT=Key("libra-umop", ranges.TEXT, "Name of the project there."),
    NAME=Key("", ranges.TEXT, "Name of the run; empty: that of OUTPUT_DIR."),
)
declare(
    "ANALYSIS",
    ENABLED=Key(
        False,
        ranges.BOOL,
        "Measure the imbalance while training, into OUTPUT_DIR/imbalance, for the report. It"
        " changes neither losses nor gradients nor the random state.",
    ),
    PERIOD=Key(20, ranges.AT_LEAST_1, "Iterations from one measured step to the next."),
    NUM_PROBED_NEGATIVES=Key(
        32,
        ranges.NOT_NEGATIVE,
        "Negatives per image that a measured step scores once more to find hard ones among all of"
        " them, not only among those sampled; 0 looks among those sampled.",
    ),
    HARD_FRACTION=Key(0.1, ranges.PART, "Part of them, by loss, that counts as hard."),
)
