"""A model with its batch, and the steps of it that are timed."""

from typing import Any, NamedTuple

import torch
from detectron2.config import CfgNode
from detectron2.layers import FrozenBatchNorm2d
from detectron2.utils.events import EventStorage
from torch import nn

from ..config.loading import load_config
from ..modeling.backbones.timm.models import without_pretrained
from ..modeling.compiling import compile_parts
from ..training.loop import DTYPES
from ..training.optimizer import build_optimizer
from ..training.pinned import PinnableBatch, send
from ..training.trainer import LibraTrainer
from .inputs import Workload, draw_proposals, fix_proposals, synthetic_batch

__all__ = ["Bench", "Contender"]


class Contender(NamedTuple):
    """What takes part in a comparison.

    Attributes:
        label: how tables call it.
        config_file: its config.
        opts: ``KEY value ...`` on top. Of them ``SOLVER.AMP`` chooses the precision of a step.
        compiled: whether its parts go through ``torch.compile``, as ``MODEL.COMPILE`` has it.
    """

    label: str
    config_file: str
    opts: tuple[str, ...] = ()
    compiled: bool = False

    def load(self) -> CfgNode:
        """Its config, with a learning rate so small that the weights stay what they are."""
        cfg = without_pretrained(load_config(self.config_file, self.opts))
        cfg.SOLVER.BASE_LR = 1e-9
        return cfg


class Bench:
    """A model with its batch; its methods are the steps that are timed.

    Args:
        contender: what is built; with the same seed, so that what two models share is equal.
        workload: what a step works on.
    """

    def __init__(self, contender: Contender, workload: Workload):
        cfg = contender.load()
        self.device = torch.device(cfg.MODEL.DEVICE)
        self.dtype = DTYPES[cfg.SOLVER.AMP.DTYPE] if cfg.SOLVER.AMP.ENABLED else None
        torch.manual_seed(0)
        self.model = LibraTrainer.build_model(cfg)
        self.batch = synthetic_batch(cfg, workload)
        self._optimizer = build_optimizer(cfg, self.model)
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)
        self._storage = EventStorage()
        self._is_pinned = cfg.DATALOADER.PIN_MEMORY and self.device.type == "cuda"
        _calibrate_frozen_norms(self.model, self.batch)
        _wake_refinement(self.model)
        if workload.num_proposals and hasattr(self.model, "proposal_generator"):
            drawn = [draw_proposals(x["instances"], workload.num_proposals) for x in self.batch]
            fix_proposals(self.model, [x.to(self.device) for x in drawn])
        if self._is_pinned:  # which a thread of the loader does beside a training
            self.batch = PinnableBatch(self.batch).pin_memory()
        if contender.compiled or cfg.MODEL.COMPILE:
            compile_parts(self.model)

    @property
    def num_parameters(self) -> int:
        """Of the model, trainable or not."""
        return sum(p.numel() for p in self.model.parameters())

    def train_step(self) -> None:
        """Forward, backward, and the optimizer's step."""
        self.model.train()
        with self._storage:
            batch = send(self.batch, self.device) if self._is_pinned else self.batch
            with self._autocast():
                losses = sum(self.model(batch).values())
            self._optimizer.zero_grad()
            self._scaler.scale(losses).backward()
            self._scaler.step(self._optimizer)
            self._scaler.update()
            self._storage.step()

    @torch.no_grad()
    def inference(self) -> None:
        """One pass in eval mode, with post-processing."""
        self.model.eval()
        with self._autocast():
            self.model(self.batch)

    def _autocast(self):
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype is not None)


@torch.no_grad()
def _calibrate_frozen_norms(model: nn.Module, batch: list[dict[str, Any]]) -> None:
    """Give frozen batch norms the statistics of one batch.

    With their initial ones, 50 layers of random weights overflow, and a detector that sees
    infinities does other work.
    """

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


def _wake_refinement(model: nn.Module) -> None:
    """Give BFP's last convolution weights as training leaves them.

    At its start, zero, it sends back gradients so small that a CPU computes with subnormal
    numbers, many times slower.
    """
    for name, module in model.named_modules():
        if name.endswith("refine.out"):
            nn.init.normal_(module.weight, std=0.01)
