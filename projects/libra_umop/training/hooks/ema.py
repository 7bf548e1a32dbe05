"""Exponential moving average of the weights."""

from typing import Any

import torch
from detectron2.engine import HookBase
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

__all__ = ["EMAHook"]


class EMAHook(HookBase):
    """Keeps average = decay * average + (1 - decay) * weights after every iteration.

    Buffers, such as batch statistics, are copied. The first iteration's weights start the average.

    Args:
        model: whose weights are averaged, not wrapped for several processes.
        decay: in [0, 1).
    """

    def __init__(self, model: torch.nn.Module, decay: float):
        self._model = model
        self._averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))
        self._averaged.requires_grad_(False)

    @property
    def module(self) -> torch.nn.Module:
        """The averaged model, of the same class as the model."""
        return self._averaged.module

    def after_step(self):
        """Take the weights of this iteration into the average."""
        self._averaged.update_parameters(self._model)

    def state_dict(self) -> dict[str, Any]:
        """Number of averaged iterations; the checkpointer keeps the weights."""
        return {"n_averaged": int(self._averaged.n_averaged)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up a :meth:`state_dict`."""
        self._averaged.n_averaged.fill_(state_dict["n_averaged"])
