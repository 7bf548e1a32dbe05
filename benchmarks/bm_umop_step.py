"""Training steps of UMOP's detectors against Detectron2's RetinaNet, on the same images.

    python benchmarks/bm_umop_step.py --size 320x544 --images 1
    python benchmarks/bm_umop_step.py --size 320x544 --images 2 --all

The models' steps (forward, backward, optimizer) take turns, so that a machine that gets slower or
busier does so for all. Where other programs run, the shortest steps and the CPU time say more than
the medians.
"""

from compare_steps import CONFIGS, main

from libra_umop.benchmark.bench import Contender


def contender(name: str) -> Contender:
    """A config of ``configs/COCO-Detection`` under its short name."""
    return Contender(name, str(CONFIGS / "COCO-Detection" / f"{name}_R_50_FPN_1x.yaml"))


BASE = [contender("retinanet"), contender("umop_retinanet")]
OTHERS = [contender(x) for x in ("libra_retinanet", "atss", "umop_atss", "fcos", "umop_fcos")]

if __name__ == "__main__":
    main(__doc__, BASE, OTHERS, "--all", "the other dense detectors too")
