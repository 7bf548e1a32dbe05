"""The sections of gpu_check.py: each measures, and writes its figures as it has them."""

import argparse
import io
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from gpu_groups import DENSE, PRECISIONS, TINY, TWO_STAGE, Group, addition_groups, step_groups
from torchvision.models import resnet50

from libra_umop.benchmark.bench import Bench, Contender
from libra_umop.benchmark.inputs import Workload
from libra_umop.benchmark.measure import allocated_memory, time_steps
from libra_umop.benchmark.table import environment
from libra_umop.export import DEFAULT_OPSET
from libra_umop.export.detector_graph import DetectorGraph
from libra_umop.export.onnx_symbolics import dynamic_resizing

REPO = Path(__file__).resolve().parents[1]
START = time.monotonic()
Write = Callable[[dict[str, Any]], None]


def environment_of(device: str) -> dict[str, Any]:
    """Machine and versions, so that a figure can be placed."""
    ret = {**environment(), "device_type": device}
    if device == "cuda":
        ret["memory_gib"] = torch.cuda.get_device_properties(0).total_memory / 2**30
        ret["cuda"] = torch.version.cuda
    return ret


def commit() -> str:
    """Of the code that is measured; a tree with changes of its own ends in "-dirty"."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


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
        command += ["-k", "test_loss_is_that_of_the_cpu"]
        env["LIBRA_UMOP_TEST_DEVICE"] = "cpu"
    else:
        command += ["-n", str(min(16, os.cpu_count() or 1))]
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


def steps(args: argparse.Namespace, write: Write) -> None:
    """Training steps in turns: time, memory, and ratios to the first of each group."""
    measure_groups(args, write, step_groups(args.device))


def additions(args: argparse.Namespace, write: Write) -> None:
    """The same of what no GPU had run when it was built."""
    measure_groups(args, write, addition_groups(args.device))


def measure_groups(args: argparse.Namespace, write: Write, groups: list[Group]) -> None:
    """Time the groups while there is time."""
    size = (800, 1333) if args.device == "cuda" else (64, 96)
    figures: list[dict[str, Any]] = []
    for title, precision, batch_size, contenders in groups:
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
    """Losses, matching, optimizers alone, beside Detectron2's way and the card's copying speed."""
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
    steps_alone = optimizer_steps(args.device)
    for functions in (bm.focal_losses(bm_args), bm.matchings(bm_args), steps_alone):
        for name, function in functions.items():
            figures["rows"][name] = {"ms": milliseconds(function, args.device)}
    for name, row in figures["rows"].items():
        if name.endswith("focal_loss_sum"):
            # Forward reads the logits; backward reads them and writes the gradient; PFL reads more.
            moved = (4 if "progressive" in name else 3) * 4 * elements
            row["gb_per_s"] = moved / row["ms"] / 1e6
    write(figures)


def optimizer_steps(device: str) -> dict[str, Callable[[], Any]]:
    """A step of each optimizer for a ResNet-50, or without a GPU for one layer, in both forms."""
    model = (resnet50() if device == "cuda" else torch.nn.Linear(8, 8)).to(device)
    for p in model.parameters():
        p.grad = torch.randn_like(p)
    kinds = {"SGD": {"momentum": 0.9}, "AdamW": {}}
    return {
        f"{name}, {form}": getattr(torch.optim, name)(
            model.parameters(), lr=1e-9, **{form: True}, **options
        ).step
        for name, options in kinds.items()
        for form in ("foreach", "fused")
    }


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
    """Eager, batches of 1 and 8, TorchScript, and ONNX Runtime where it knows the device."""
    on_gpu = args.device == "cuda"
    size, batches, iterations = ((800, 1333), (8, 1), 12) if on_gpu else ((64, 96), (1,), 1)
    figures: dict[str, Any] = {"size": size, "rows": {}}
    shipped = (TWO_STAGE[1], DENSE[1], TWO_STAGE[0], DENSE[0], DENSE[4])
    for x in shipped if on_gpu else shipped[:2]:
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
        run_onnx = onnx_form(DetectorGraph(bench.model.cpu()), image.cpu(), args.device)
        if run_onnx is not None:
            ms = milliseconds(run_onnx, args.device, iterations)
            figures["rows"][f"{x.label}, fp32"]["ONNX Runtime"] = ms
            write(figures)


def onnx_form(graph: DetectorGraph, image: torch.Tensor, device: str) -> Callable | None:
    """The graph under ONNX Runtime on the device, image and detections copied; None without it."""
    try:
        import onnx  # noqa: F401  (of which torch's exporter makes use)
        import onnxruntime
    except ImportError:
        return None
    provider = f"{device.upper()}ExecutionProvider"
    if provider not in onnxruntime.get_available_providers():
        return None
    file = io.BytesIO()
    with dynamic_resizing(DEFAULT_OPSET):
        torch.onnx.export(
            graph, (image,), file, dynamo=False, opset_version=DEFAULT_OPSET, input_names=["image"]
        )
    session = onnxruntime.InferenceSession(file.getvalue(), providers=[provider])
    return partial(session.run, None, {"image": image.numpy()})


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
