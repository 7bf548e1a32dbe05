"""Time and memory of what a config builds, on drawn-up inputs: no data set and no weights needed.

What is compared is compared in one run, its steps taking turns, as a machine's speed drifts.
"""

import contextlib
import multiprocessing
import os
import re
import time
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Sequence, Tuple

import torch
from detectron2.config import CfgNode
from detectron2.data import build_detection_train_loader
from detectron2.layers import FrozenBatchNorm2d
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from torch import nn
from torch.utils.benchmark import Measurement, TaskSpec, timer

from .config_io import load_config
from .optimizer import build_optimizer
from .trainer import LibraTrainer

MIB = 2**20


class Contender(NamedTuple):
    """What takes part in a comparison.

    Attributes:
        label: how tables call it.
        config_file: its config.
        opts: ``KEY value ...`` on top.
        compiled: whether its parts go through ``torch.compile``; see :func:`compile_parts`.
    """

    label: str
    config_file: str
    opts: Tuple[str, ...] = ()
    compiled: bool = False

    def load(self) -> CfgNode:
        """Its config, with a learning rate so small that the weights stay what they are."""
        cfg = load_config(self.config_file, self.opts)
        cfg.MODEL.WEIGHTS = ""
        cfg.SOLVER.BASE_LR = 1e-9
        return cfg


class Workload(NamedTuple):
    """What a step works on: a batch of ``batch_size`` images of ``size`` (H, W)."""

    size: Tuple[int, int]
    batch_size: int = 1


def synthetic_batch(cfg: CfgNode, workload: Workload, seed: int = 0) -> List[Dict[str, Any]]:
    """Noise images with 4 to 16 random boxes each, in Detectron2's format for training.

    The boxes' sides are spread log-uniformly from 16 px to the image's, so that every pyramid level
    has positives; their masks are the boxes' outlines.
    """
    generator = torch.Generator().manual_seed(seed)
    height, width = workload.size
    batch = []
    for _ in range(workload.batch_size):
        image = torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)
        count = int(torch.randint(4, 17, (1,), generator=generator))
        limits = torch.tensor([width, height], dtype=torch.float32)
        sides = 16 * (limits / 16) ** torch.rand(count, 2, generator=generator)
        corners = (limits - sides) * torch.rand(count, 2, generator=generator)
        boxes = torch.cat((corners, corners + sides), dim=1)
        instances = Instances((height, width), gt_boxes=Boxes(boxes))
        num_classes = num_classes_of(cfg)
        instances.gt_classes = torch.randint(0, num_classes, (count,), generator=generator)
        if cfg.MODEL.MASK_ON:
            instances.gt_masks = _box_masks(boxes, cfg.INPUT.MASK_FORMAT, (height, width))
        batch.append({"image": image, "instances": instances, "height": height, "width": width})
    return batch


def num_classes_of(cfg: CfgNode) -> int:
    """The fewest classes that any head of the config knows, so that a label suits each of them."""
    counts = re.findall(r"^\s*NUM_CLASSES: (\d+)$", cfg.MODEL.dump(), flags=re.MULTILINE)
    return min(int(count) for count in counts)


def _box_masks(boxes: torch.Tensor, mask_format: str, size: Tuple[int, int]):
    from detectron2.structures import BitMasks, PolygonMasks

    polygons = [[b[[0, 1, 2, 1, 2, 3, 0, 3]].double().numpy()] for b in boxes]
    if mask_format == "polygon":
        return PolygonMasks(polygons)
    return BitMasks.from_polygon_masks(polygons, *size)


class Bench:
    """A model with its batch; its methods are the steps that are timed."""

    def __init__(self, contender: Contender, workload: Workload):
        cfg = contender.load()
        self.device = torch.device(cfg.MODEL.DEVICE)
        self.model = LibraTrainer.build_model(cfg)
        self.batch = synthetic_batch(cfg, workload)
        self._optimizer = build_optimizer(cfg, self.model)
        self._storage = EventStorage()
        _calibrate_frozen_norms(self.model, self.batch)
        if contender.compiled:
            compile_parts(self.model)

    @property
    def num_parameters(self) -> int:
        """Of the model, trainable or not."""
        return sum(p.numel() for p in self.model.parameters())

    def train_step(self) -> None:
        """Forward, backward, and the optimizer's step."""
        self.model.train()
        with self._storage:
            losses = sum(self.model(self.batch).values())
            self._optimizer.zero_grad()
            losses.backward()
            self._optimizer.step()
            self._storage.step()

    @torch.no_grad()
    def inference(self) -> None:
        """One pass in eval mode, with post-processing."""
        self.model.eval()
        self.model(self.batch)


def compile_parts(model: nn.Module) -> None:
    """Put what works on whole feature maps through ``torch.compile``, in place.

    These are the backbone, the convolutional heads, and a dense detector's losses. The lists of
    images and boxes between them would only break the graph.
    """
    for name, module in model.named_modules():
        if name in ("backbone", "head", "proposal_generator.rpn_head"):
            module.compile()
    if hasattr(model, "losses"):
        model.losses = torch.compile(model.losses)


STEPS = ("train_step", "inference")


@torch.no_grad()
def _calibrate_frozen_norms(model: nn.Module, batch: List[Dict[str, Any]]) -> None:
    """Give frozen batch norms the statistics of one batch: with their initial ones, 50 layers of
    random weights overflow, and a detector that sees infinities does other work."""

    def set_statistics(module, inputs):
        module.running_var.copy_(inputs[0].var(dim=(0, 2, 3)) + module.eps)
        module.running_mean.copy_(inputs[0].mean(dim=(0, 2, 3)))

    hooks = [
        module.register_forward_pre_hook(set_statistics)
        for module in model.modules()
        if isinstance(module, FrozenBatchNorm2d)
    ]
    model.eval()
    model(batch)
    for hook in hooks:
        hook.remove()


def measure(
    contenders: Sequence[Contender],
    workload: Workload,
    *,
    steps: Sequence[str] = STEPS,
    iterations: int = 10,
    warmup: int = 2,
    memory: bool = True,
) -> Dict[str, Dict[str, Any]]:
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
    figures: Dict[str, Dict[str, Any]] = {}
    for contender in contenders:
        figure: Dict[str, Any] = {"config_file": contender.config_file}
        for step, measurement in times[contender.label].items():
            figure[step] = 1000 * measurement.median
            figure[f"{step}_all"] = [1000 * seconds for seconds in measurement.raw_times]
            if memory:
                figure[f"{step}_memory"] = peak_memory(contender, workload, step)
        figure["parameters"] = benches[contender.label].num_parameters / 1e6
        figures[contender.label] = figure
    return figures


def time_steps(
    benches: Mapping[str, Bench],
    *,
    steps: Sequence[str] = STEPS,
    iterations: int = 10,
    warmup: int = 2,
) -> Dict[str, Dict[str, Measurement]]:
    """Time the steps of all benches in turns.

    Args:
        benches: by label.
        steps: of :data:`STEPS`.
        iterations: timed rounds; in each, every bench makes every step once, and every second
            round goes backwards.
        warmup: rounds before, untimed.

    Returns:
        By label and step, a ``Measurement`` in seconds: ``median``, ``iqr``, ``raw_times``.
    """
    turns = [(label, step) for step in steps for label in benches]
    seconds: Dict[Tuple[str, str], List[float]] = {turn: [] for turn in turns}
    for i in range(warmup + iterations):
        for label, step in turns if i % 2 == 0 else reversed(turns):
            function = getattr(benches[label], step)
            start = timer()  # waits for the GPU, if there is one
            function()
            elapsed = timer() - start
            if i >= warmup:
                seconds[label, step].append(elapsed)
    return {
        label: {step: _measurement(step, seconds[label, step]) for step in steps}
        for label in benches
    }


def _measurement(step: str, seconds: List[float]) -> Measurement:
    task = TaskSpec(stmt=step, setup="", num_threads=torch.get_num_threads())
    return Measurement(number_per_run=1, raw_times=seconds, task_spec=task)


def peak_memory(contender: Contender, workload: Workload, step: str) -> float:
    """MiB that two steps take at their peak, beyond the model and its batch.

    On a GPU it is the allocator's; on a CPU the growth of the resident memory, in a fresh process
    each time, as one that has freed memory does not give all of it back.
    """
    context = multiprocessing.get_context("spawn")
    # Tensors get pages of their own, which go back as soon as they are freed.
    with _environment(MALLOC_MMAP_THRESHOLD_="65536"), context.Pool(1) as pool:
        return pool.apply(_peak_memory, (contender, workload, step, torch.get_num_threads()))


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


def _peak_memory(contender: Contender, workload: Workload, step: str, num_threads: int) -> float:
    torch.set_num_threads(num_threads)
    bench = Bench(contender, workload)
    function = getattr(bench, step)
    if bench.device.type == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        function(), function()
        return (torch.cuda.max_memory_allocated() - before) / MIB
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
    """Images per second that the training loader of a config gives when nothing else runs.

    Args:
        cfg: with registered ``DATASETS.TRAIN``.
        num_batches: of ``SOLVER.IMS_PER_BATCH`` images that are timed.
        warmup: batches before; workers start and fill their queues.
    """
    batches = iter(build_detection_train_loader(cfg))
    for _ in range(warmup):
        next(batches)
    start = time.perf_counter()
    count = sum(len(next(batches)) for _ in range(num_batches))
    return count / (time.perf_counter() - start)
