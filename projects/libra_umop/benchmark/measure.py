"""Time and memory of what a config builds, on drawn-up inputs: no data set and no weights needed.

What is compared is compared in one run, its steps taking turns, as a machine's speed drifts.
"""

import contextlib
import multiprocessing
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from detectron2.config import CfgNode
from torch.utils.benchmark import timer

from ..training.trainer import LibraTrainer
from . import STEPS
from .bench import Bench, Contender
from .inputs import Workload

MIB = 2**20


class StepTimes(NamedTuple):
    """Seconds of every timed step, by the clock and of the processor."""

    wall: list[float]
    cpu: list[float]

    @property
    def median(self) -> float:
        """Of the wall times."""
        return statistics.median(self.wall)


def measure(
    contenders: Sequence[Contender],
    workload: Workload,
    *,
    steps: Sequence[str] = STEPS,
    iterations: int = 10,
    warmup: int = 2,
    memory: bool = True,
) -> dict[str, dict[str, Any]]:
    """Time, memory and size of all contenders.

    Args:
        contenders: with different labels.
        workload, steps, iterations, warmup: as for :func:`time_steps`.
        memory: whether to measure it, which takes a process for each contender and step.

    Returns:
        By label: ``config_file``; for each step its median in ms, all its times as ``<step>_all``,
        and ``<step>_memory`` in MiB; ``parameters`` in millions.
    """
    benches = {contender.label: Bench(contender, workload) for contender in contenders}
    times = time_steps(benches, steps=steps, iterations=iterations, warmup=warmup)
    figures: dict[str, dict[str, Any]] = {}
    for contender in contenders:
        figure: dict[str, Any] = {"config_file": contender.config_file}
        for step, seconds in times[contender.label].items():
            figure[step] = 1000 * seconds.median
            figure[f"{step}_all"] = [1000 * x for x in seconds.wall]
            if memory:
                bench = benches[contender.label]
                on_gpu = bench.device.type == "cuda"
                figure[f"{step}_memory"] = (
                    allocated_memory(bench, step)
                    if on_gpu
                    else resident_memory(contender, workload, step)
                )
        figure["parameters"] = benches[contender.label].num_parameters / 1e6
        figures[contender.label] = figure
    return figures


def time_steps(
    benches: Mapping[str, Bench],
    *,
    steps: Sequence[str] = STEPS,
    iterations: int = 10,
    warmup: int = 2,
) -> dict[str, dict[str, StepTimes]]:
    """Time the steps of all benches in turns.

    Args:
        benches: by label.
        steps: of :data:`STEPS`.
        iterations: timed rounds; in each, every bench makes every step once, and every second
            round goes backwards.
        warmup: rounds before, untimed.

    Returns:
        By label and step, the times.
    """
    turns = [(label, step) for step in steps for label in benches]
    times = {label: {step: StepTimes([], []) for step in steps} for label in benches}
    for i in range(warmup + iterations):
        for label, step in turns if i % 2 == 0 else reversed(turns):
            function = getattr(benches[label], step)
            cpu, wall = time.process_time(), timer()  # waits for the GPU, if there is one
            function()
            wall, cpu = timer() - wall, time.process_time() - cpu
            if i >= warmup:
                times[label][step].wall.append(wall)
                times[label][step].cpu.append(cpu)
    return times


def allocated_memory(bench: Bench, step: str) -> float:
    """MiB that CUDA's allocator holds at the peak of two steps, beyond what is there before."""
    function = getattr(bench, step)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    function(), function()
    return (torch.cuda.max_memory_allocated() - before) / MIB


def resident_memory(contender: Contender, workload: Workload, step: str) -> float:
    """MiB by which a process grows at the peak of two steps, beyond the model and its batch.

    The process is a fresh one each time, as one that has freed memory does not give all of it back.
    """
    context = multiprocessing.get_context("spawn")
    # Tensors get pages of their own, which go back as soon as they are freed.
    with _environment(MALLOC_MMAP_THRESHOLD_="65536"), context.Pool(1) as pool:
        return pool.apply(_resident_memory, (contender, workload, step, torch.get_num_threads()))


@contextlib.contextmanager
def _environment(**variables: str):
    old = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in old.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _resident_memory(
    contender: Contender, workload: Workload, step: str, num_threads: int
) -> float:
    torch.set_num_threads(num_threads)
    function = getattr(Bench(contender, workload), step)
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts from here
    before = _status_mib("VmRSS")
    function(), function()
    return _status_mib("VmHWM") - before


def _status_mib(field: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise OSError(f"/proc/self/status has no {field}")


def loading_speed(cfg: CfgNode, num_batches: int, warmup: int = 2) -> float:
    """Images per second that the trainer's loader of a config gives when nothing else runs.

    Args:
        cfg: with registered ``DATASETS.TRAIN``.
        num_batches: of ``SOLVER.IMS_PER_BATCH`` images that are timed.
        warmup: batches before; workers start and fill their queues.
    """
    batches = iter(LibraTrainer.build_train_loader(cfg))
    for _ in range(warmup):
        next(batches)
    start = time.perf_counter()
    count = sum(len(next(batches)) for _ in range(num_batches))
    return count / (time.perf_counter() - start)
