"""The sections of gpu_check.py: each measures, and writes its figures as it has them."""

import argparse
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from libra_umop.benchmark.bench import Bench, Contender
from libra_umop.benchmark.inputs import Workload
from libra_umop.benchmark.measure import allocated_memory, time_steps
from libra_umop.benchmark.table import environment

REPO = Path(__file__).resolve().parents[1]
CONFIGS = REPO / "configs"
START = time.monotonic()
Write = Callable[[dict[str, Any]], None]

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
# What Detectron2's zoo trains: Caffe's weights, whose inputs are not divided by their spread.
ZOO = ("MODEL.PIXEL_MEAN", "[103.53,116.28,123.675]", "MODEL.PIXEL_STD", "[1.0,1.0,1.0]")


def environment_of(device: str) -> dict[str, Any]:
    """Machine, versions and commit, so that a figure can be placed."""
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=REPO, capture_output=True, text=True)
    ret = {**environment(), "commit": done.stdout.strip() or "unknown", "device_type": device}
    if device == "cuda":
        ret["memory_gib"] = torch.cuda.get_device_properties(0).total_memory / 2**30
        ret["cuda"] = torch.version.cuda
    return ret


def seconds_left() -> float:
    """Of this section's process, which began when this module was imported."""
    limit = float(os.environ.get("LIBRA_UMOP_SECTION_SECONDS", "600"))
    return limit - (time.monotonic() - START)


def tests(args: argparse.Namespace, write: Write) -> None:
    """The suite's tests of a GPU; without one, a few of them rehearsed."""
    report = args.output / "tests.xml"
    # Only their files, as others may need what is not on that machine.
    marked = [f for f in sorted(REPO.glob("tests/**/test_*.py")) if "mark.gpu" in f.read_text()]
    command = [sys.executable, "-m", "pytest", "-m", "gpu", f"--junitxml={report}", "-q"]
    command += map(str, marked)
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    if args.device == "cpu":
        command += ["-k", "test_focal_loss or test_balanced_l1"]
        env["LIBRA_UMOP_TEST_DEVICE"] = "cpu"
    else:
        command += ["-n", str(min(8, os.cpu_count() or 1))]
    code = subprocess.run(command, cwd=REPO, env=env).returncode
    suite = next(ElementTree.parse(report).getroot().iter("testsuite"))
    report.unlink()
    failed = [
        f"{case.get('classname')}::{case.get('name')}: {problem.get('message', '')[:300]}"
        for case in suite.iter("testcase")
        for problem in [*case.iter("failure"), *case.iter("error")]
    ]
    counts = {name: int(suite.get(name)) for name in ("tests", "failures", "errors", "skipped")}
    write({**counts, "seconds": float(suite.get("time")), "failed": failed})
    sys.exit(code)


def contender(name: str, *opts: str, folder: str = "COCO-Detection", label: str = "") -> Contender:
    """A R-50 config of the zoo."""
    return Contender(label or name, str(CONFIGS / folder / f"{name}_R_50_FPN_1x.yaml"), opts)


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


def steps(args: argparse.Namespace, write: Write) -> None:
    """Training steps in turns: time, memory, and ratios to the first of each group."""
    size = (800, 1333) if args.device == "cuda" else (64, 96)
    figures: list[dict[str, Any]] = []
    for title, precision, batch_size, contenders in step_groups(args.device):
        if seconds_left() < 15:
            return
        opts = (*PRECISIONS[precision], "MODEL.DEVICE", args.device)
        rows = compare(
            [x._replace(opts=(*x.opts, *opts)) for x in contenders],
            Workload(size, batch_size),
            iterations=1 if args.device == "cpu" else 4 if batch_size > 8 else 8,
        )
        place = {"group": title, "precision": precision, "batch": batch_size, "size": size}
        figures.append({**place, "rows": rows})
        write({"groups": figures})


def step_groups(device: str) -> list[tuple]:
    """Title, precision, images and contenders of each comparison, the most telling first."""
    both = [TWO_STAGE[0], TWO_STAGE[1], DENSE[0], DENSE[1]]
    if device == "cpu":
        pairs = (("two-stage", TWO_STAGE), ("dense", DENSE))
        return [(title, "fp32", 1, [more(x, TINY) for x in pair[:2]]) for title, pair in pairs]
    return [
        ("two-stage", "fp32", 2, TWO_STAGE),
        ("dense", "fp32", 2, DENSE),
        ("two-stage", "bf16", 2, [*TWO_STAGE[:2], HALF_ATTENTION, *TWO_STAGE[2:5]]),
        ("dense", "bf16", 2, DENSE),
        ("two-stage", "bf16", 16, [*TWO_STAGE[:2], HALF_ATTENTION]),
        ("dense", "bf16", 16, [*DENSE[:2], *DENSE[3:5]]),
        *(("channels last", "bf16", 2, [x, more(x, CHANNELS_LAST, "last")]) for x in both),
        *(("compiled", "bf16", 2, [x, more(x, (), "compiled")]) for x in both),
    ]


def more(x: Contender, opts: Sequence[str], suffix: str = "") -> Contender:
    """The same with further options, compiled if ``suffix`` says so."""
    label = f"{x.label}, {suffix}" if suffix else x.label
    return x._replace(label=label, opts=(*x.opts, *opts), compiled=suffix == "compiled")


def compare(contenders, workload: Workload, *, iterations: int) -> dict[str, Any]:
    """Medians in ms, images per second, MiB and ratios to the first, by label."""
    benches = {x.label: Bench(x, workload) for x in contenders}
    times = time_steps(benches, steps=["train_step"], iterations=iterations, warmup=3)
    base = times[contenders[0].label]["train_step"].median
    rows = {}
    for label, bench in benches.items():
        seconds = times[label]["train_step"]
        rows[label] = {
            "ms": 1e3 * seconds.median,
            "ratio": seconds.median / base,
            "images_per_s": workload.batch_size / seconds.median,
            "all_ms": [round(1e3 * x, 3) for x in seconds.wall],
        }
        if bench.device.type == "cuda":
            rows[label]["mib"] = allocated_memory(bench, "train_step")
    return rows


def losses(args: argparse.Namespace, write: Write) -> None:
    """Losses and matching alone, against Detectron2's way and against the card's copying speed."""
    import bm_umop_losses as bm

    on_gpu = args.device == "cuda"
    bm_args = argparse.Namespace(
        anchors_focal=120000 if on_gpu else 2000,
        classes=80,
        anchors=20000 if on_gpu else 2000,
        boxes=100,
        device=args.device,
    )
    elements = 2 * bm_args.anchors_focal * bm_args.classes
    figures: dict[str, Any] = {"copy_gb_per_s": copy_speed(args.device, elements), "rows": {}}
    for functions in (bm.focal_losses(bm_args), bm.matchings(bm_args)):
        for name, function in functions.items():
            figures["rows"][name] = {"ms": milliseconds(function, args.device)}
    for name, row in figures["rows"].items():
        if name.endswith("focal_loss_sum"):
            # Forward reads the logits; backward reads them and writes the gradient; PFL reads more.
            moved = (4 if "progressive" in name else 3) * 4 * elements
            row["gb_per_s"] = moved / row["ms"] / 1e6
    write(figures)


def copy_speed(device: str, elements: int) -> float:
    """GB/s, bytes read and written, of a copy of so many float32."""
    a = torch.randn(elements, device=device)
    b = torch.empty_like(a)
    return 8 * elements / milliseconds(lambda: b.copy_(a), device) / 1e6


def milliseconds(function: Callable[[], Any], device: str, iterations: int = 20) -> float:
    """Median of ``function``, on a GPU by its own clock."""
    times = []
    for _ in range(iterations + 3):
        if device == "cuda":
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            function()
            end.record()
            torch.cuda.synchronize()
            times.append(begin.elapsed_time(end))
        else:
            start = time.perf_counter()
            function()
            times.append(1e3 * (time.perf_counter() - start))
    return sorted(times[3:])[iterations // 2]


@torch.no_grad()
def inference(args: argparse.Namespace, write: Write) -> None:
    """Eager and TorchScript, batches of 1 and 8."""
    from libra_umop.export.detector_graph import DetectorGraph

    on_gpu = args.device == "cuda"
    size, batches, iterations = ((800, 1333), (8, 1), 12) if on_gpu else ((64, 96), (1,), 1)
    figures: dict[str, Any] = {"size": size, "rows": {}}
    for x in (TWO_STAGE[1], DENSE[1], TWO_STAGE[0], DENSE[0], DENSE[4]):
        if seconds_left() < 8:
            return
        bench = Bench(for_device(x, args.device), Workload(size, max(batches)))
        batch = bench.batch
        for precision, bench.dtype in (("fp32", None), ("bf16", torch.bfloat16)):
            row = figures["rows"].setdefault(f"{x.label}, {precision}", {})
            for batch_size in batches:
                bench.batch = batch[:batch_size]
                ms = milliseconds(bench.inference, args.device, iterations)
                row[f"eager, batch {batch_size}"] = ms / batch_size
        image = batch[0]["image"].float().to(args.device)
        graph = torch.jit.trace(DetectorGraph(bench.model), image, check_trace=False)
        ms = milliseconds(partial(graph, image), args.device, iterations)
        figures["rows"][f"{x.label}, fp32"]["TorchScript"] = ms
        write(figures)


def for_device(x: Contender, device: str, precision: str = "fp32") -> Contender:
    """The same on a device; on a CPU, of the smallest size."""
    tiny = TINY if device == "cpu" else ()
    return x._replace(opts=(*x.opts, *PRECISIONS[precision], "MODEL.DEVICE", device, *tiny))


def profile(args: argparse.Namespace, write: Write) -> None:
    """Where a step's time goes: the kernels of most time, and how often the host waits."""
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    on_gpu = args.device == "cuda"
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_gpu
    clock = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    workload = Workload((800, 1333) if on_gpu else (64, 96), 2)
    figures: dict[str, Any] = {}
    pairs = ((TWO_STAGE[1], "fp32"), (TWO_STAGE[0], "fp32"), (DENSE[1], "bf16"), (DENSE[0], "bf16"))
    for x, precision in pairs[:: 1 if on_gpu else 2]:
        if seconds_left() < 6:
            return
        bench = Bench(for_device(x, args.device, precision), workload)
        for _ in range(3 if on_gpu else 1):
            bench.train_step()
        with profiler(activities=activities) as run:
            bench.train_step()
        events = run.key_averages()
        waits = [e for e in events if "Synchronize" in e.key or e.key in ("aten::item",)]
        # On a GPU the kernels alone: what launched one has its time once more.
        timed = [e for e in events if not on_gpu or e.device_type == DeviceType.CUDA]
        top = sorted(timed, key=lambda e: getattr(e, clock), reverse=True)
        figures[f"{x.label}, {precision}"] = {
            "total_ms": sum(getattr(e, clock) for e in timed) / 1e3,
            "top": [[e.key[:90], getattr(e, clock) / 1e3, e.count] for e in top[:15]],
            "waits": {e.key: e.count for e in waits},
        }
        write(figures)


def study(args: argparse.Namespace, write: Write) -> None:
    """Real trainings, plain against balanced, through the study, as many seeds as time allows."""
    import gpu_study

    gpu_study.run(args, write, seconds_left)
