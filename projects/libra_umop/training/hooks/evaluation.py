"""When a run is evaluated."""

from collections.abc import Callable
from typing import Any

from detectron2.engine import HookBase
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.utils import comm

from ...utils.rng import preserved_rng

__all__ = ["EvalHook"]


class EvalHook(HookBase):
    """Same interface as :class:`detectron2.engine.hooks.EvalHook`, and a run may be resumed.

    * Whatever evaluation draws from the random generators, training does not notice.
    * The checkpoint of an iteration is written before its evaluation. A run that is resumed from
      it evaluates first, so that it knows all that the run that was not stopped knows.

    Args:
        period: evaluate after every so many iterations; 0: only after the last.
        evaluate: returns a nested dict of metrics on the main rank.
    """

    def __init__(self, period: int, evaluate: Callable[[], dict[str, Any]]):
        self._period = period
        self._evaluate = evaluate
        self.done_until = 0  # iterations that were done at the last evaluation
        self.metrics: dict[str, float] = {}  # of the last evaluation
        self.count = 0  # evaluations in this process

    def before_train(self):
        """Evaluate what a run that was resumed had yet to, in the name of the iteration before."""
        start = self.trainer.start_iter
        if 0 < start < self.trainer.max_iter and self._is_due(start):
            self.trainer.storage.iter = start - 1
            self._run(start)
            self.trainer.storage.iter = start

    def after_step(self):
        """Evaluate if it is due; what is due after the last iteration waits for the end."""
        iterations = self.trainer.iter + 1
        if iterations != self.trainer.max_iter and self._is_due(iterations):
            self._run(iterations)

    def after_train(self):
        """Evaluate at the end of a run that got there."""
        if self.trainer.iter >= self.trainer.max_iter:  # not after a failure
            self._run(self.trainer.max_iter)

    def _is_due(self, iterations: int) -> bool:
        due = self._period > 0 and iterations % self._period == 0
        return due and iterations != self.done_until

    def _run(self, iterations: int) -> None:
        with preserved_rng():
            results = self._evaluate()
        self.metrics = {k: float(v) for k, v in flatten_results_dict(results or {}).items()}
        self.trainer.storage.put_scalars(**self.metrics, smoothing_hint=False)
        self.done_until = iterations
        self.count += 1
        comm.synchronize()  # evaluation takes longer on the main rank

    def state_dict(self) -> dict[str, Any]:
        """After how many iterations the last evaluation was, for the checkpoint."""
        return {"done_until": self.done_until}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up a :meth:`state_dict`."""
        self.done_until = state_dict["done_until"]
