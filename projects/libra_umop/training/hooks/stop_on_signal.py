"""Being asked to stop: by a scheduler that preempts, by a time limit, or by Ctrl-C."""

import logging
import math
import signal
import threading
import time
from typing import Any

from detectron2.engine import HookBase
from detectron2.utils import comm

from ...errors import EXIT_PREEMPTED, StopTraining
from ...utils.signals import SIGNALS

__all__ = ["StopOnSignal"]

logger = logging.getLogger(__name__)

# A Ctrl-C reaches a process twice at once where a launcher passes on its own.
PATIENCE_S = 3.0


class StopOnSignal(HookBase):
    """On SIGTERM, SIGUSR1 or Ctrl-C: finish the iteration, write a checkpoint, end with 75.

    The signal may reach one rank only; all ranks stop in the same iteration. A second Ctrl-C, some
    seconds after the first, ends at once. Signals are noted from :meth:`listen` to
    ``after_train``; the hook belongs behind all others. In the last iteration training ends as it
    would have.
    """

    def __init__(self, checkpointer):
        self._checkpointer = checkpointer
        self._old_handlers: dict[int, Any] = {}
        self._first_interrupt = math.inf

    def listen(self) -> None:
        """To be called before the hooks' ``before_train``, where a resumed run may evaluate."""
        if threading.current_thread() is threading.main_thread():  # Python's rule for handlers
            for signum in SIGNALS:
                self._old_handlers[signum] = signal.signal(signum, self._note)

    def after_train(self):
        """Give the signals back to whoever had them."""
        for signum, handler in self._old_handlers.items():
            signal.signal(signum, handler)
        self._old_handlers = {}

    def _note(self, signum: int, frame: Any) -> None:
        step = self.trainer.train_step
        now = time.monotonic()
        if signum == signal.SIGINT:
            if now > self._first_interrupt + PATIENCE_S:
                raise KeyboardInterrupt
            self._first_interrupt = min(self._first_interrupt, now)
        step.stop_signal = signum

    def after_step(self):
        """Write a checkpoint if all ranks heard of a signal, and end.

        Raises:
            StopTraining: after the checkpoint; its exit code tells of preemption.
        """
        step, iteration = self.trainer.train_step, self.trainer.iter
        if comm.get_world_size() == 1:
            step.agreed_signal = step.stop_signal
        if not step.agreed_signal or iteration + 1 >= self.trainer.max_iter:
            return
        name = signal.Signals(step.agreed_signal).name
        logger.info(f"{name}: writing a checkpoint of iteration {iteration}")
        self._checkpointer.save(f"model_{iteration:07d}", iteration=iteration)
        comm.synchronize()  # nobody ends before the file is there
        raise StopTraining(
            f"{name}: stopped after iteration {iteration} of {self.trainer.max_iter};"
            " go on with --resume",
            EXIT_PREEMPTED,
        )
