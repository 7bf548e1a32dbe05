"""Who takes part in the comparisons of gpu_check.py, and in which groups."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from libra_umop.benchmark.bench import Contender

CONFIGS = Path(__file__).resolve().parents[1] / "configs"

TINY = (
    *("MODEL.RESNETS.STEM_OUT_CHANNELS", "8", "MODEL.RESNETS.RES2_OUT_CHANNELS", "32"),
    *("MODEL.RESNETS.WIDTH_PER_GROUP", "8", "MODEL.FPN.OUT_CHANNELS", "64"),
    *("MODEL.ROI_BOX_HEAD.FC_DIM", "64", "MODEL.RPN.PRE_NMS_TOPK_TRAIN", "100"),
)
PRECISIONS = {
    "fp32": (),
    "bf16": ("SOLVER.AMP.ENABLED", "True", "SOLVER.AMP.DTYPE", "bfloat16"),
}
CHANNELS_LAST = ("MODEL.CHANNELS_LAST", "True")
PINNED = ("DATALOADER.PIN_MEMORY", "True")
# What Detectron2's zoo trains: Caffe's weights, whose inputs are not divided by their spread.
ZOO = ("MODEL.PIXEL_MEAN", "[103.53,116.28,123.675]", "MODEL.PIXEL_STD", "[1.0,1.0,1.0]")


class Group(NamedTuple):
    """One comparison; ratios are to the first of its contenders."""

    title: str
    precision: str
    batch_size: int
    contenders: list[Contender]


def contender(
    name: str, *opts: str, folder: str = "COCO-Detection", label: str = "", schedule: str = "1x"
) -> Contender:
    """A R-50 config of the zoo."""
    file = CONFIGS / folder / f"{name}_R_50_FPN_{schedule}.yaml"
    return Contender(label or name, str(file), opts)


TWO_STAGE = [
    contender("faster_rcnn"),
    contender("libra_faster_rcnn"),
    contender("iou_sampling", folder="ablations"),
    contender("bfp", folder="ablations"),
    contender("balanced_l1", folder="ablations"),
    contender("ohem", folder="ablations"),
    contender("faster_rcnn", *ZOO, label="faster_rcnn, zoo's input"),
]
HALF_ATTENTION = contender(
    "libra_faster_rcnn", "MODEL.BFP.PRECISION", "autocast", label="libra, attention in half"
)
DENSE = [
    contender(name)
    for name in [
        "retinanet",
        "umop_retinanet",
        "libra_retinanet",
        "atss",
        "umop_atss",
        "fcos",
        "umop_fcos",
    ]
]


QUALITY = [
    contender("atss"),
    contender("gfl"),
    contender("umop_gfl"),
    contender("vfnet"),
    contender("qfl_atss", folder="ablations", schedule="1.5x"),
    contender("vfl_atss", folder="ablations", schedule="1.5x"),
]
COUNTS = ("MODEL.CLASS_WEIGHTS.COUNTS", str([1] * 80))  # there is no data to count them in
LONG_TAIL = [
    [contender("retinanet"), contender("equalized_focal_retinanet", folder="ablations")],
    [
        TWO_STAGE[0],
        contender("seesaw", folder="ablations"),
        contender("class_weights", *COUNTS, folder="ablations"),
    ],
]


def step_groups(device: str) -> list[Group]:
    """The most telling first; without a GPU, two at the smallest size."""
    both = [TWO_STAGE[0], TWO_STAGE[1], DENSE[0], DENSE[1]]
    if device == "cpu":
        return [tiny("two-stage", TWO_STAGE[:2]), tiny("dense", DENSE[:2])]
    return [
        Group("two-stage", "fp32", 2, TWO_STAGE),
        Group("dense", "fp32", 2, DENSE),
        Group("two-stage", "bf16", 2, [*TWO_STAGE[:2], HALF_ATTENTION, *TWO_STAGE[2:5]]),
        Group("dense", "bf16", 2, DENSE),
        Group("two-stage", "bf16", 16, [*TWO_STAGE[:2], HALF_ATTENTION]),
        Group("dense", "bf16", 16, [*DENSE[:2], *DENSE[3:5]]),
        *(Group("channels last", "bf16", 2, [x, more(x, CHANNELS_LAST, "last")]) for x in both),
    ]


def addition_groups(device: str) -> list[Group]:
    """What no GPU had run when it was built, the most telling first; compiling takes longest."""
    both = [DENSE[1], TWO_STAGE[1]]
    if device == "cpu":
        return [tiny("quality", QUALITY), *(tiny("long tail", group) for group in LONG_TAIL)]
    return [
        *(Group("pinned", "bf16", 2, [x, more(x, PINNED, "pinned")]) for x in both),
        Group("pinned", "bf16", 16, [DENSE[1], more(DENSE[1], PINNED, "pinned")]),
        Group("quality", "bf16", 2, QUALITY),
        *(Group("long tail", "bf16", 2, group) for group in LONG_TAIL),
        *(Group("compiled", "bf16", 2, [x, more(x, (), "compiled")]) for x in both),
        Group("compiled", "bf16", 16, [DENSE[1], more(DENSE[1], (), "compiled")]),
    ]


def tiny(title: str, contenders: list[Contender]) -> Group:
    """For a machine without a GPU, to show that it works."""
    return Group(title, "fp32", 1, [more(x, TINY) for x in contenders])


def more(x: Contender, opts: Sequence[str], suffix: str = "") -> Contender:
    """The same with further options, compiled if ``suffix`` says so."""
    label = f"{x.label}, {suffix}" if suffix else x.label
    return x._replace(label=label, opts=(*x.opts, *opts), compiled=suffix == "compiled")
