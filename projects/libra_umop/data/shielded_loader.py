"""What all data loaders of a run share: workers that outlive a signal to all its processes."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import build_detection_test_loader
from torch.utils.data import DataLoader

from ..utils.signals import SIGNALS

__all__ = ["ShieldedDataLoader", "build_test_loader"]

# Not on Windows, where no process gets another's signals, nor on macOS, which does not say whose a
# signal was.
_CAN_BLOCK = hasattr(signal, "sigwaitinfo")


class ShieldedDataLoader(DataLoader):
    """Same interface as :class:`DataLoader`, whose workers heed the signals of their parent alone.

    A scheduler or torchrun signals all processes of a run, and a worker that dies of it would take
    the run with it, before its checkpoint.
    """

    def __init__(self, *args, **kwargs):
        # Python 3.14 starts processes from a server, which would be the workers' parent.
        if kwargs.get("num_workers") and sys.platform == "linux":
            kwargs.setdefault("multiprocessing_context", "fork")
        # Another worker_init_fn in kwargs is an error, and is to be one.
        super().__init__(*args, worker_init_fn=_heed_the_parent_alone, **kwargs)  # type: ignore[misc]

    def __iter__(self):
        with _blocked_signals():  # inherited: a worker is shielded before its first instruction
            return super().__iter__()


def build_test_loader(
    cfg: CfgNode, dataset_name: str, mapper: Callable[[dict[str, Any]], Any]
) -> ShieldedDataLoader:
    """Detectron2's loader of one image at a time, each rank with its share of the images."""
    built = build_detection_test_loader(cfg, dataset_name, mapper=mapper)
    return ShieldedDataLoader(
        built.dataset,
        batch_sampler=built.batch_sampler,
        num_workers=built.num_workers,
        collate_fn=built.collate_fn,
    )


@contextlib.contextmanager
def _blocked_signals() -> Iterator[None]:
    if not _CAN_BLOCK:
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _heed_the_parent_alone(worker_id: int) -> None:
    """In a worker process: SIGTERM ends it only where its parent sends it, at its own end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not _CAN_BLOCK:
        return
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # for threads to come, too

    def wait() -> None:
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
            pass
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()
