"""Two variants under one seed start alike and see alike, whatever each draws.

* **Initial weights.** While a model is built, every random draw is made from a stream of its own,
  seeded by the run's seed and the name of the tensor that it fills. So all tensors that two models
  share begin equal, whatever else the one or the other has.
* **Data.** Order and augmentation come from the loader's own seed and the position alone
  (:mod:`libra_umop.training.loader`); that seed is the run's.
* **Everything else** that a step draws (anchors, proposals) begins anew at every iteration, so that
  a lever which draws more or less in one step does not change the draws of the next.
"""

import random
import time
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.modeling import build_model
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from ..training.trainer import LibraTrainer
from ..utils.rng import preserved_rng

__all__ = ["PairedTrainer", "build_paired", "shared_name"]


def shared_name(name: str) -> str:
    """A tensor's name without what a lever wraps around it: BFP holds the pyramid inside itself."""
    return name.replace("backbone.pyramid.", "backbone.", 1)


def _seed_of(*parts: Any) -> int:
    """A seed in [0, 2^32) that follows from ``parts`` alone."""
    return zlib.crc32(repr(parts).encode())


class _Draws(TorchDispatchMode):
    """Seeds the generator before the n-th random draw with ``seeds[n]``, and records the draws."""

    def __init__(self, seeds: dict[int, int]):
        super().__init__()
        self.seeds = seeds
        self.storages: list[torch.UntypedStorage] = []  # kept, so that no address is used twice
        self.shapes: list[tuple] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        is_draw = torch.Tag.nondeterministic_seeded in func.tags
        if is_draw and len(self.storages) in self.seeds:
            torch.default_generator.manual_seed(self.seeds[len(self.storages)])
        out = func(*args, **(kwargs or {}))
        if is_draw and isinstance(out, torch.Tensor):
            self.storages.append(out.untyped_storage())
            self.shapes.append(tuple(out.shape))
        return out


def build_paired(cfg: CfgNode, seed: int, build: Callable[[CfgNode], nn.Module]) -> nn.Module:
    """``build(cfg)`` with every draw of an initial weight from a stream of its tensor's name.

    The model is built twice: first to learn which tensor each draw ends in. A draw that ends in
    none (a table that is made of it) has a stream of its shape and its number among those.
    """
    with preserved_rng():
        on_cpu = cfg.clone()
        on_cpu.defrost()
        on_cpu.MODEL.DEVICE = "cpu"
        with _Draws({}) as draws:
            model = build_model(on_cpu)
        tensors = [*model.named_parameters(), *model.named_buffers()]
        names = {t.untyped_storage().data_ptr(): shared_name(name) for name, t in tensors}
        names.pop(0, None)  # where tensors without memory have theirs
        seeds: dict[int, int] = {}
        anonymous: dict[tuple, int] = {}
        for i, (storage, shape) in enumerate(zip(draws.storages, draws.shapes, strict=True)):
            name = names.get(storage.data_ptr())
            if name is None:
                anonymous[shape] = anonymous.get(shape, 0) + 1
                seeds[i] = _seed_of(seed, shape, anonymous[shape])
            else:
                seeds[i] = _seed_of(seed, name)
        del model, draws
        with _Draws(seeds):
            return build(cfg)


class _SeedEachStep(HookBase):
    """Every iteration draws from streams of its number; says nothing of how many draws it makes."""

    def __init__(self, seed: int):
        self._seed = seed

    def before_step(self):
        seed = _seed_of(self._seed, self.trainer.iter)
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)


class _StepTimes(HookBase):
    """Seconds of every step, data loading included and evaluation not."""

    def __init__(self):
        self.seconds: list[float] = []

    def before_step(self):
        self._start = time.perf_counter()

    def after_step(self):
        self.seconds.append(time.perf_counter() - self._start)


class PairedTrainer(LibraTrainer):
    """Same interface as :class:`~libra_umop.training.trainer.LibraTrainer`; ``SEED`` pairs runs.

    Attributes:
        step_seconds: of every step of this process.
    """

    def build_hooks(self):
        """Same interface as the parent's; a clock stands before and after all other hooks."""
        times = _StepTimes()
        self.step_seconds = times.seconds
        # The clock is read after all others' before_step, and before all others' after_step.
        return [_SeedEachStep(self.cfg.SEED), times, *super().build_hooks()]

    @classmethod
    def build_model(cls, cfg):
        """Same interface as the parent's; weights that variants share start the same."""
        return build_paired(cfg, cfg.SEED, super().build_model)

    @classmethod
    def build_train_loader(cls, cfg):
        """Same interface as the parent's; all variants of a seed see the same images."""
        with preserved_rng():
            np.random.seed(_seed_of(cfg.SEED, "data"))
            return super().build_train_loader(cfg)
