"""Whole training steps of Libra R-CNN against plain Faster R-CNN, on the same images and regions.

    python benchmarks/bm_libra_step.py --size 320x544 --images 2
    python benchmarks/bm_libra_step.py --size 800x1333 --images 1 --levers

On a CPU, page faults of blocks that glibc gives back and takes again can cost more than what is
compared; MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=68719476736 in the environment avoids them.

The models' steps (forward, backward, optimizer) take turns, so that a machine that gets slower does
so for all. All are given the same regions, see libra_umop.benchmark.inputs; "--own-proposals"
leaves each its own, whose number and size are luck with random weights. Where other programs run
too, the shortest steps and the CPU time say more than the medians.
"""

from compare_steps import CONFIGS, main

from libra_umop.benchmark.bench import Contender

PLAIN = CONFIGS / "COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml"
LIBRA = CONFIGS / "COCO-Detection/libra_faster_rcnn_R_50_FPN_1x.yaml"
ABLATIONS = CONFIGS / "ablations"
# What Detectron2's zoo trains: Caffe's weights, whose inputs are not divided by their spread.
ZOO = ("MODEL.PIXEL_MEAN", "[103.53,116.28,123.675]", "MODEL.PIXEL_STD", "[1.0,1.0,1.0]")
RANDOM = (
    *("MODEL.ROI_HEADS.NAME", "LibraROIHeads"),
    *("MODEL.ROI_HEADS.NEGATIVE_SAMPLER", "random"),
    *("MODEL.ROI_HEADS.POSITIVE_SAMPLER", "random"),
)
TORCHVISION = ("MODEL.ROI_HEADS.SPARSE_ROI_ALIGN", "False")
BASE = [Contender("plain", str(PLAIN)), Contender("Libra", str(LIBRA))]
LEVERS = [
    Contender("plain, Detectron2's zoo config", str(PLAIN), ZOO),
    Contender("plain, sparse ROIAlign", str(PLAIN), RANDOM),
    Contender("Libra, torchvision's ROIAlign", str(LIBRA), TORCHVISION),
    *(
        Contender(f"  {title} alone", str(ABLATIONS / f"{name}_R_50_FPN_1x.yaml"), TORCHVISION)
        for title, name in (
            ("IoU-balanced sampling", "iou_sampling"),
            ("BFP", "bfp"),
            ("balanced L1", "balanced_l1"),
        )
    ),
]

if __name__ == "__main__":
    main(__doc__, BASE, LEVERS, "--levers", "each lever alone too, and either ROIAlign in both")
