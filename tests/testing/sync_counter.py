"""Count what would make the host wait for a GPU, where there is none; refuse it where there is."""

import contextlib

import torch
from torch.utils._python_dispatch import TorchDispatchMode

# Their result is a number on the host, or has a size that only the device knows.
WAITING = (
    *("nonzero", "_local_scalar_dense", "masked_select", "equal"),
    *("unique", "_unique", "bincount"),
)


class SyncCounter(TorchDispatchMode):
    """``with SyncCounter() as counter: ...`` leaves their number in ``counter.count``."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        self.count += name.startswith(WAITING) or (name == "index" and _has_mask(args[1]))
        return func(*args, **(kwargs or {}))


def _has_mask(indices):
    return any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in indices)


@contextlib.contextmanager
def no_waiting(device):
    """CUDA raises where the host would wait for the device."""
    if device == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        if device == "cuda":
            torch.cuda.set_sync_debug_mode("default")
