"""What ANALYSIS.ENABLED costs: training steps that are measured against those that are not.

    python benchmarks/bm_collector.py --size 320x544 --images 2
    python benchmarks/bm_collector.py --config-file
    configs/COCO-Detection/umop_atss_R_50_FPN_1x.yaml

Steps of one model with the collector and without it alternate, so that a machine that gets busier
does so for both. One step in ANALYSIS.PERIOD is measured in a training; the overhead of the
training is that of a measured step over the period.
"""

import argparse
import statistics
import tempfile
import time
from types import SimpleNamespace

import torch

from libra_umop.benchmark.bench import Bench, Contender
from libra_umop.benchmark.inputs import Workload
from libra_umop.imbalance.probes.collector import ImbalanceCollector

CONFIGS = [
    f"configs/COCO-Detection/{name}_R_50_FPN_1x.yaml"
    for name in ("faster_rcnn", "libra_faster_rcnn", "retinanet", "umop_atss")
]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config-file", nargs="+", default=CONFIGS, metavar="FILE")
    parser.add_argument("--size", default="320x544", help="height x width of the images")
    parser.add_argument("--images", type=int, default=2, help="images in a step")
    parser.add_argument("--iters", type=int, default=6, help="timed steps of each kind")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()

    workload = Workload(tuple(int(x) for x in args.size.split("x")), args.images)
    print(f"{args.images} images of {args.size}, {args.device}, {torch.get_num_threads()} threads,")
    print(f"torch {torch.__version__}; medians of {args.iters} steps\n")
    print("| config | step | measured step | inside the collector | per measured step | per step |")
    print("|---|---|---|---|---|---|")
    for config_file in args.config_file:
        print(row(config_file, workload, args), flush=True)


def row(config_file: str, workload: Workload, args: argparse.Namespace) -> str:
    """One line of the table."""
    torch.manual_seed(0)
    contender = Contender("plain", config_file, ("MODEL.DEVICE", args.device))
    bench, cfg = Bench(contender, workload), contender.load()
    seconds = {False: [], True: []}
    inside = []
    with tempfile.TemporaryDirectory() as folder:
        cfg.OUTPUT_DIR = folder
        collector = ImbalanceCollector(cfg)
        collector.period = 1
        collector.trainer = SimpleNamespace(iter=0, model=bench.model)
        for i in range(2 * (args.iters + 1)):
            is_measured = bool((i + i // 2) % 2)  # off on, on off, off on ...
            elapsed, own = step(bench, collector if is_measured else None)
            if i >= 2:
                seconds[is_measured].append(elapsed)
                inside += [own] if is_measured else []
    plain, measured = (statistics.median(seconds[kind]) for kind in (False, True))
    own, period = statistics.median(inside), cfg.ANALYSIS.PERIOD
    name = config_file.rsplit("/", 1)[-1].removesuffix(".yaml")
    return (
        f"| {name} | {1e3 * plain:.0f} ms | {1e3 * measured:.0f} ms | {1e3 * own:.1f} ms"
        f" | {100 * own / plain:.1f} % | {100 * own / plain / period:.2f} % |"
    )


def step(bench: Bench, collector) -> tuple:
    """Seconds of one training step, and of what the collector itself did in it."""
    synchronize(bench)
    start = time.perf_counter()
    if collector is not None:
        collector.before_step()
        probes = list(collector._probes)
    bench.train_step()
    synchronize(bench)
    before = time.perf_counter()
    if collector is None:
        return before - start, 0.0
    collector.after_step()
    end = time.perf_counter()
    return end - start, end - before + sum(probe.seconds for probe in probes)


def synchronize(bench: Bench) -> None:
    """Wait for the device."""
    if bench.device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
