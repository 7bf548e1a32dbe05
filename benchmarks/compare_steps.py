"""What bm_libra_step.py and bm_umop_step.py share: training steps in turns, and a table."""

import argparse
import statistics
from pathlib import Path

import torch

from libra_umop.benchmark.bench import Bench, Contender
from libra_umop.benchmark.inputs import Workload
from libra_umop.benchmark.measure import time_steps
from libra_umop.cli.argument_types import image_size, positive

FIGURES = ((statistics.median, "wall"), (min, "wall"), (statistics.median, "cpu"))
CONFIGS = Path(__file__).resolve().parents[1] / "configs"


def main(doc: str, base: list[Contender], more: list[Contender], flag: str, meaning: str) -> None:
    """Time ``base`` and, where ``flag`` is given, ``more``; the first is what ratios are to."""
    parser = argparse.ArgumentParser(description=doc.split("\n")[0])
    parser.add_argument("--size", type=image_size, default=(320, 544), help="height x width")
    parser.add_argument("--images", type=positive, default=2, help="images in a step")
    parser.add_argument("--iters", type=positive, default=15, help="timed steps of each model")
    parser.add_argument("--warmup", type=positive, default=2, help="steps of each before them")
    parser.add_argument("--threads", type=positive, default=torch.get_num_threads())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--own-proposals", action="store_true", help="see above")
    parser.add_argument(flag, dest="more", action="store_true", help=meaning)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    workload = Workload(args.size, args.images)
    if args.own_proposals:
        workload = workload._replace(num_proposals=0)
    contenders = [
        x._replace(opts=(*x.opts, "MODEL.DEVICE", args.device))
        for x in base + (more if args.more else [])
    ]
    benches = {x.label: Bench(x, workload) for x in contenders}
    times = time_steps(benches, steps=["train_step"], iterations=args.iters, warmup=args.warmup)
    height, width = args.size
    print(
        f"torch {torch.__version__}, {args.device}, {args.threads} threads, {args.iters} steps of "
        f"{args.images} x {height}x{width}, {workload.num_proposals or 'own'} proposals an image"
    )
    print(f"{'':34s} {'median s':>9s} {'ratio':>7s} {'min s':>9s} {'ratio':>7s}", end="")
    print(f" {'cpu s':>9s} {'ratio':>7s}")
    baseline = times[contenders[0].label]["train_step"]
    for x in contenders:
        print(f"{x.label:34s}", end="")
        for reduce, clock in FIGURES:
            value = reduce(getattr(times[x.label]["train_step"], clock))
            print(f" {value:9.3f} {value / reduce(getattr(baseline, clock)):7.3f}", end="")
        print()
