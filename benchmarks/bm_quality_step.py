"""Training steps with the losses of quality, and of GFL and VFNet, against those of ATSS.

    python benchmarks/bm_quality_step.py --size 320x544 --images 1
    python benchmarks/bm_quality_step.py --size 320x544 --images 1 --detectors

The models' steps (forward, backward, optimizer) take turns, as in bm_umop_step.py.
"""

from compare_steps import CONFIGS, main

from libra_umop.benchmark.bench import Contender


def contender(name: str, folder: str = "COCO-Detection") -> Contender:
    """A config of ``configs/``, without its schedule, under its short name."""
    (path,) = (CONFIGS / folder).glob(f"{name}_R_50_FPN_1*x.yaml")
    return Contender(name, str(path))


BASE = [Contender("atss", str(CONFIGS / "COCO-Detection" / "atss_R_50_FPN_1x.yaml"))]
BASE += [contender(name, "ablations") for name in ("qfl_atss", "vfl_atss")]
OTHERS = [contender(name) for name in ("gfl", "umop_gfl", "vfnet", "umop_vfnet")]

if __name__ == "__main__":
    main(__doc__, BASE, OTHERS, "--detectors", "GFL and VFNet too")
