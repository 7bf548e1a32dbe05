"""Metrics that training writes to files as it goes."""

import contextlib
from collections.abc import Callable, Sequence

from detectron2.engine import HookBase
from detectron2.utils import comm
from detectron2.utils.events import EventWriter

from ...utils.ranks import heard_by_all_ranks

__all__ = ["PeriodicWriter"]


class PeriodicWriter(HookBase):
    """Same as :class:`detectron2.engine.hooks.PeriodicWriter`, but for what cannot be written.

    Writers are made when training begins, as they open files, and all are closed even if one cannot
    write. It belongs on all ranks, which hear where the main rank's disk is full.

    Args:
        build_writers: returns the writers; called on the main rank only.
        period: iterations from one writing to the next.
    """

    def __init__(self, build_writers: Callable[[], Sequence[EventWriter]], period: int = 20):
        self._build_writers = build_writers
        self._period = period
        self._writers: Sequence[EventWriter] = ()

    def before_train(self):
        """Make the writers, on the main rank."""
        with heard_by_all_ranks():
            self._writers = self._build_writers() if comm.is_main_process() else ()

    def after_step(self):
        """Write what is due after this iteration."""
        iterations = self.trainer.iter + 1
        if iterations % self._period == 0 or iterations == self.trainer.max_iter:
            with heard_by_all_ranks():
                for writer in self._writers:
                    writer.write()

    def after_train(self):
        """Write the rest, and close the writers."""
        with contextlib.ExitStack() as stack:
            for writer in self._writers:
                stack.callback(writer.close)
            for writer in self._writers:
                writer.write()
