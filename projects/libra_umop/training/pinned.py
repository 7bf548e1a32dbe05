"""``DATALOADER.PIN_MEMORY``: batches that the host does not wait for on their way to a GPU.

A copy from page-locked ("pinned") memory runs beside what the host does next; from any other, and
as Detectron2's models ask for theirs, the host waits until the device has done all before it. So
the loader pins a batch, in a thread of its own where it has workers, and sends it; the model then
finds it on its device.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from detectron2.structures import BitMasks, Boxes, Instances, Keypoints, RotatedBoxes
from torch import Tensor

__all__ = ["PinnableBatch", "send"]

# What holds tensors in a sample, as attributes; polygons are numpy's and stay on the host.
STRUCTURES = (Instances, Boxes, RotatedBoxes, BitMasks, Keypoints)


class PinnableBatch(list[dict[str, Any]]):
    """Samples, list[dict], whose tensors :class:`torch.utils.data.DataLoader` can pin.

    By itself it pins those that stand in the dicts, but does not look into :class:`Instances`.
    """

    def pin_memory(self) -> "PinnableBatch":
        """The batch with all its tensors in pinned memory."""
        return PinnableBatch(_map_tensors(sample, Tensor.pin_memory) for sample in self)


def send(batch: list[dict[str, Any]], device: str | torch.device) -> list[dict[str, Any]]:
    """The batch on ``device``, all its tensors; the host does not wait for those that are pinned.

    Args:
        batch: samples in Detectron2's format; unchanged.
        device: where to.
    """
    return [_map_tensors(d, lambda x: x.to(device, non_blocking=True)) for d in batch]


def _map_tensors(x: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """``x`` with ``function`` of each tensor in it; what holds none is the same object."""
    if isinstance(x, Tensor):
        return function(x)
    if isinstance(x, dict):
        return {key: _map_tensors(value, function) for key, value in x.items()}
    if isinstance(x, STRUCTURES):
        ret = copy.copy(x)  # a subclass stays one, with what it has beside the fields
        vars(ret).update(_map_tensors(vars(x), function))
        return ret
    return x
