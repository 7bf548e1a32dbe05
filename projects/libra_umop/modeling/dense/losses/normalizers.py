"""What the losses of a dense detector are divided by.

In the detectors here a buffer, or the positives of the step; in Detectron2's a plain number of a
module, which ``DenseDetector._ema_update`` makes at the first loss, so that no ``state_dict`` has
it. Letters: L levels, S statistics.
"""

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ...optional_buffers import OptionalBuffers

__all__ = [
    "LossNormalizer",
    "LossSum",
    "RankTotals",
    "count_positives",
    "get_normalizers",
    "preserved_normalizers",
    "set_normalizers",
]

LOSS_NORMALIZERS = ("moving_average", "num_positives")


class LossSum(NamedTuple):
    """A loss that is not divided yet: over a set, both parts are summed before the division.

    What the losses of a dense detector here are while its ``returns_sums`` is True. Then no other
    rank takes part and no running average moves, so that images may be given one by one and in
    any number to a rank. The focus of PFL and LRP, which would depend on the batch, stays at its
    centre.
    """

    total: Tensor  # 0-dim
    # Hides tuple.count, which nobody asks a loss for.
    count: Tensor  # type: ignore[assignment]  # 0-dim: positives, or the sum of what weighs them


class RankTotals(NamedTuple):
    """What the losses of a step add over ranks, on all of them the same."""

    sums: Tensor  # (L, S), see ClassificationLoss.sums
    num_positives: Tensor  # (L,) fp32
    num_images: Tensor  # 0-dim fp32
    num_ranks: int  # gradients are averaged over them


def count_positives(totals: RankTotals) -> Tensor:
    """Positives of all levels, mean over ranks, but one per image at least (0-dim).

    Images without any positive thus give the mean of their losses and not the sum.
    """
    return torch.maximum(totals.num_positives.sum(), totals.num_images) / totals.num_ranks


class LossNormalizer(OptionalBuffers):
    """Number of positives, by which RetinaNet and FCOS divide their losses, or its moving average.

    Detectron2 keeps the average as a Python number of one rank that a resumed run starts anew; here
    it is a buffer, in the checkpoint and the same on all ranks. A checkpoint without it loads
    silently.

    Args:
        initial: what the average starts from.
        momentum: weight of the average so far, in [0, 1).
        loss_normalizer: "moving_average" (Detectron2) or "num_positives", those of this step
            (:func:`count_positives`; the released UMOP); the average then stays as it is.

    Raises:
        ValueError: for another name.
    """

    average: Tensor

    def __init__(
        self, *, initial: float, momentum: float = 0.9, loss_normalizer: str = "moving_average"
    ):
        super().__init__()
        if loss_normalizer not in LOSS_NORMALIZERS:
            raise ValueError(
                f"LOSS_NORMALIZER is {loss_normalizer!r}, should be one of {LOSS_NORMALIZERS}"
            )
        self.momentum = momentum
        self.loss_normalizer = loss_normalizer
        self.register_buffer("average", torch.tensor(float(initial)))

    def update(self, totals: RankTotals) -> Tensor:
        """What to divide by in this step (0-dim)."""
        if self.loss_normalizer == "num_positives":
            return count_positives(totals)
        value = totals.num_positives.sum().clamp(min=1) / totals.num_ranks
        average = self.average * self.momentum + value * (1 - self.momentum)
        self.average.copy_(average)
        return average


def get_normalizers(model: nn.Module) -> dict[str, float]:
    """Dotted name -> value of every running normaliser in ``model``."""
    return {
        f"{module_name}.{name}": value
        for module_name, module in model.named_modules()
        for name, value in vars(module).items()
        if name.endswith("loss_normalizer") and isinstance(value, (int, float))
    }


def set_normalizers(model: nn.Module, values: dict[str, float]) -> None:
    """Make the running normalisers of ``model`` those of :func:`get_normalizers`, and no others."""
    for name in set(get_normalizers(model)) - set(values):
        module_name, _, attribute = name.rpartition(".")
        delattr(model.get_submodule(module_name), attribute)
    for name, value in values.items():
        module_name, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(module_name), attribute, value)


@contextlib.contextmanager
def preserved_normalizers(model: nn.Module) -> Iterator[None]:
    """Losses that are computed inside do not change the running normalisers."""
    values = get_normalizers(model)
    try:
        yield
    finally:
        set_normalizers(model, values)
