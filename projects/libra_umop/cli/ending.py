"""How the ranks of a run end together where one of them meets what a user can mend."""

import contextlib
import datetime
import sys
from collections.abc import Iterator
from typing import Any

import torch.distributed as dist

from ..utils.ranks import is_end_of_peer

__all__ = ["ending_together"]

# How long a rank whose peers are gone waits to be told of it; then it shows its own traceback.
PATIENCE = datetime.timedelta(seconds=10)
_CODE = "exit code"


@contextlib.contextmanager
def ending_together() -> Iterator[None]:
    """The exit code of one rank becomes that of all; those that waited for it say nothing.

    The rank that ends has printed its line, and leaves its exit code in the store of the group,
    which is kept by what started the ranks. The others are in a collective that breaks, or hear of
    it in :func:`~libra_umop.utils.ranks.agree`; an error of their own keeps its traceback, and so
    do all of them where no exit code was told.
    """
    store = dist.distributed_c10d._get_default_store()
    try:
        yield
    except SystemExit as end:
        _tell(store, int(end.code or 0))
        raise
    except Exception as e:
        code = _code_of_peer(store) if is_end_of_peer(e) else 0
        if code:
            sys.exit(code)
        _tell(store, 0)
        raise


def _tell(store: Any, code: int) -> None:
    with contextlib.suppress(RuntimeError):  # who keeps the store may have ended
        store.compare_set(_CODE, "", str(code))  # the first one counts


def _code_of_peer(store: Any) -> int:
    try:
        store.wait([_CODE], PATIENCE)
        return int(store.get(_CODE))
    except RuntimeError:
        return 0
