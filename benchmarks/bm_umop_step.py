"""Training steps of UMOP's detectors against Detectron2's RetinaNet, on the same images.

    python benchmarks/bm_umop_step.py --size 320x544 --images 1
    python benchmarks/bm_umop_step.py --size 320x544 --images 2 --all

RetinaNet and UMOP RetinaNet share their weights. Their steps (forward, backward, optimizer)
alternate, so that a machine that gets slower or busier does so for all. Where other programs run,
the shortest steps and the CPU time say more than the medians.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch
from bm_libra_step import build_step, make_batch
from detectron2.utils.events import EventStorage

PLAIN = "COCO-Detection/retinanet_R_50_FPN_1x.yaml"
UMOP = "COCO-Detection/umop_retinanet_R_50_FPN_1x.yaml"
OTHERS = [
    f"COCO-Detection/{name}_R_50_FPN_1x.yaml"
    for name in ("libra_retinanet", "atss", "umop_atss", "fcos", "umop_fcos")
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", default="320x544", help="height x width of the images")
    parser.add_argument("--images", type=int, default=1, help="images in a step")
    parser.add_argument("--iters", type=int, default=10, help="timed steps of each model")
    parser.add_argument("--warmup", type=int, default=2, help="steps of each before them")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--all", action="store_true", help="the other dense detectors too")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    batch = make_batch(tuple(int(x) for x in args.size.split("x")), args.images)
    config_files = [PLAIN, UMOP] + (OTHERS if args.all else [])
    steps = {}
    for config_file in config_files:
        model, steps[config_file] = build_step(config_file, batch=batch, device=args.device)
        if config_file == PLAIN:
            plain = model.state_dict()
        elif config_file == UMOP:
            model.load_state_dict(plain)

    seconds = {config_file: [] for config_file in config_files}
    with EventStorage():
        for i in range(args.warmup + args.iters):
            for config_file, step in steps.items():
                wall, cpu = time.perf_counter(), time.process_time()
                step()
                if i >= args.warmup:
                    passed = time.perf_counter() - wall, time.process_time() - cpu
                    seconds[config_file].append(passed)

    print(
        f"torch {torch.__version__}, {args.device}, {args.threads} threads, {args.iters} steps "
        f"each of {args.images} images {args.size}"
    )
    print(f"{'config':32s}{'median s':>9s}{'ratio':>7s}{'min s':>8s}{'ratio':>7s}", end="")
    print(f"{'cpu s':>8s}{'ratio':>7s}")
    for config_file, values in seconds.items():
        print(f"{Path(config_file).stem:32s}", end="")
        for column, reduce in ((0, statistics.median), (0, min), (1, statistics.median)):
            value, base = (reduce([x[column] for x in v]) for v in (values, seconds[PLAIN]))
            print(f"{value:{9 if reduce is statistics.median and column == 0 else 8}.3f}", end="")
            print(f"{value / base:7.2f}", end="")
        print()


if __name__ == "__main__":
    main()
