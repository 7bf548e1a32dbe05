"""Lines that training prints to the console as it goes."""

import datetime
import logging
import math
import sys
import time
from collections.abc import Callable
from typing import Any

from detectron2.engine import HookBase
from detectron2.utils.events import CommonMetricPrinter, get_event_storage

__all__ = ["LoggerHook"]

# From one line to the next, at least: where somebody watches, and where a log is read later.
TERMINAL_S, LOG_S = 5.0, 20.0


class LoggerHook(HookBase):
    """Print Detectron2's line of losses and times every few seconds, however fast the steps are.

    The first one after the first iteration, so that one sees that it goes, and one after the last.

    Args:
        max_iter: of the run.
        epochs: of the run, where it was told in epochs; they stand beside the iterations then.
        interval_s: seconds between lines; by default few on a terminal, more elsewhere.
        clock: seconds.
    """

    def __init__(
        self,
        max_iter: int,
        *,
        epochs: float | None = None,
        interval_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        if interval_s is None:
            interval_s = TERMINAL_S if sys.stdout.isatty() else LOG_S
        self._interval_s = interval_s
        self._clock = clock
        self._next = -math.inf
        self._printer = _Printer(max_iter, epochs)

    def after_step(self):
        """Print the line if it is due."""
        is_last = self.trainer.iter + 1 == self.trainer.max_iter
        if is_last or self._clock() >= self._next:
            self._printer.write()
            self._next = self._clock() + self._interval_s


class _Printer(CommonMetricPrinter):
    """Detectron2's, with epochs; ``eta_seconds`` is printed and not stored.

    It is not periodic here, and metrics.json would get lines with nothing else.
    """

    def __init__(self, max_iter: int, epochs: float | None):
        super().__init__(max_iter)
        if epochs is not None:
            self.logger: Any = _WithEpochs(self.logger, epochs, max_iter)

    def _get_eta(self, storage) -> str:
        times = storage.histories().get("time")
        if times is None:  # not in the first iterations
            return ""
        seconds = times.median(1000) * (self._max_iter - storage.iter - 1)
        return str(datetime.timedelta(seconds=int(seconds)))


class _WithEpochs(logging.LoggerAdapter):
    """Puts the epoch in front of a line."""

    def __init__(self, logger: logging.Logger, epochs: float, max_iter: int):
        super().__init__(logger, {})
        self._epochs = epochs
        self._max_iter = max_iter

    def process(self, msg, kwargs):
        """Same interface as :meth:`logging.LoggerAdapter.process`; the epoch stands in front."""
        done = self._epochs * (get_event_storage().iter + 1) / self._max_iter
        return f" epoch: {done:.2f}/{self._epochs:g} {msg}", kwargs
