"""How the ranks of a run end together where one of them meets what a user can mend."""

import contextlib
import datetime
import sys
import time
from collections.abc import Iterator
from typing import Any

import torch.distributed as dist
from detectron2.utils import comm

from ..utils.ranks import is_end_of_peer

__all__ = ["ending_together", "let_go_of_groups"]

# How long ranks wait for each other to learn of an end. Who takes longer shows its traceback.
PATIENCE = datetime.timedelta(seconds=10)
_CODE, _LEFT = "exit code", "ranks that left"


@contextlib.contextmanager
def ending_together() -> Iterator[None]:
    """The exit code of one rank becomes that of all; those that waited for it say nothing.

    The rank that ends has printed its line. The others are in a collective that breaks, or hear of
    it in :func:`~libra_umop.utils.ranks.agree`; an error of their own keeps its traceback, and so
    do all of them where no exit code was told.
    """
    store = dist.distributed_c10d._get_default_store()
    try:
        yield
    except SystemExit as end:
        _leave(store, int(end.code or 0))
        raise
    except Exception as e:
        code = _code_of_peer(store) if is_end_of_peer(e) else 0
        if not code:
            _tell(store, 0)
            raise
        _leave(store, code)
        sys.exit(code)


def let_go_of_groups() -> None:
    """Close the connections to the other ranks."""
    dist.destroy_process_group()
    # Detectron2 keeps its groups; their threads have to end before the interpreter does.
    comm._LOCAL_PROCESS_GROUP = None
    comm._get_global_gloo_group.cache_clear()


def _tell(store: Any, code: int) -> None:
    with contextlib.suppress(RuntimeError):  # its process may have ended
        store.compare_set(_CODE, "", str(code))  # the first one counts


def _code_of_peer(store: Any) -> int:
    try:
        store.wait([_CODE], PATIENCE)
        return int(store.get(_CODE))
    except RuntimeError:
        return 0


def _leave(store: Any, code: int) -> None:
    """End; the main rank, whose process may keep the store, waits for the others to have asked."""
    size, is_main = comm.get_world_size(), comm.is_main_process()
    on_gloo = dist.get_backend() == "gloo"
    _tell(store, code)
    if on_gloo:  # nccl would wait for kernels of which the others have no part
        let_go_of_groups()
    with contextlib.suppress(RuntimeError):
        store.add(_LEFT, 1)
        end = time.monotonic() + PATIENCE.total_seconds()
        while is_main and store.add(_LEFT, 0) < size and time.monotonic() < end:
            time.sleep(0.05)
