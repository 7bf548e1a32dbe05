"""Scalars of a loss on their way into the event storage; nothing here waits for the device."""

from collections.abc import MutableMapping
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from detectron2.utils.events import EventStorage, get_event_storage
from torch import Tensor

__all__ = ["DeferredScalars"]


class DeferredScalars:
    """Writes scalars that live on the device into the event storage without waiting for them.

    From a GPU they are copied in the background and written at the next call under the same
    storage, under the iteration that they belong to: the last step of a run stays unwritten.
    """

    def __init__(self):
        # Per storage, as each has iterations of its own; those of one that is gone go with it.
        self._pending: MutableMapping[EventStorage, _Pending] = WeakKeyDictionary()

    @torch.compiler.disable  # reads numbers, which would recompile at each step
    def put(self, names: list[str], values: Tensor) -> None:
        """Write ``values`` (len(names),) to the current :class:`EventStorage`."""
        storage = get_event_storage()
        values = values.detach()
        if not values.is_cuda:
            self._write(names, values, storage.iter)
            return
        before = self._pending.pop(storage, None)
        if before is not None:
            before.copied.synchronize()  # one step old: long over
            self._write(before.names, before.host, before.iteration)
        self._pending[storage] = _Pending(names, *_start_copy(values), storage.iter)

    @staticmethod
    def _write(names: list[str], host: Tensor, iteration: int) -> None:
        storage = get_event_storage()
        for name, value in zip(names, host.tolist(), strict=True):
            storage.put_scalar(name, value, cur_iter=iteration)

    def __getstate__(self):
        """A copy of the model starts with nothing pending."""
        return {"_pending": WeakKeyDictionary()}


class _Pending(NamedTuple):
    names: list[str]
    host: Tensor
    copied: torch.cuda.Event
    iteration: int


def _start_copy(values: Tensor) -> tuple[Tensor, torch.cuda.Event]:
    """A tensor on the host, and the event after which it has the values."""
    host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    host.copy_(values, non_blocking=True)
    copied = torch.cuda.Event()
    copied.record()
    return host, copied
