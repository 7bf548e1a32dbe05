"""Hooks around evaluation: when it runs, what is best so far, and when there is no more to gain."""

import logging
import math
from collections.abc import Callable
from typing import Any

from detectron2.engine import HookBase
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.utils import comm

from ...errors import StopTraining
from ...utils.ranks import heard_by_all_ranks
from ...utils.rng import preserved_rng

logger = logging.getLogger(__name__)


class Evaluate(HookBase):
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
        start = self.trainer.start_iter
        if 0 < start < self.trainer.max_iter and self._is_due(start):
            self.trainer.storage.iter = start - 1
            self._run(start)
            self.trainer.storage.iter = start

    def after_step(self):
        iterations = self.trainer.iter + 1
        if iterations != self.trainer.max_iter and self._is_due(iterations):
            self._run(iterations)

    def after_train(self):
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
        return {"done_until": self.done_until}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.done_until = state_dict["done_until"]


class BestSoFar(HookBase):
    """Keeps the weights of the best evaluation, and ends training when none gets better.

    It belongs behind :class:`Evaluate`. The best value, its iteration and the evaluations since
    are part of every checkpoint; ``last_checkpoint`` never names the best one.

    Args:
        evaluate: the hook whose metrics are watched.
        checkpointer: writes ``model_best.pth``; None writes nothing.
        metric: name of a metric, "bbox/AP"; of the first test set, where there are several.
        mode: "max" or "min", whichever is better.
        patience: end after so many evaluations in a row without a better one; 0: never.
        min_delta: by how much a value has to be better to count for ``patience``.
    """

    FILE = "model_best"

    def __init__(
        self,
        evaluate: Evaluate,
        checkpointer=None,
        *,
        metric: str = "bbox/AP",
        mode: str = "max",
        patience: int = 0,
        min_delta: float = 0.0,
    ):
        if mode not in ("max", "min"):
            raise ValueError(f"mode is {mode!r}, should be 'max' or 'min'")
        self._evaluate = evaluate
        self._checkpointer = checkpointer
        self.metric = metric
        self._sign = 1.0 if mode == "max" else -1.0
        self._patience = patience
        self._min_delta = min_delta
        self._seen = 0
        self.best: float | None = None  # its weights are in model_best.pth
        self.best_iter = -1
        self._mark: float | None = None  # the value that the next has to beat by min_delta
        self._since_mark = 0

    @property
    def seen(self) -> bool:
        """Whether any evaluation gave metrics."""
        return bool(self._evaluate.metrics)

    @property
    def file(self) -> str:
        """Name of the checkpoint of the best weights, without its suffix; "" if none is kept."""
        return self.FILE if self._checkpointer is not None else ""

    def before_train(self):
        self._look()
        self._stop_if_hopeless()

    def after_step(self):
        if self._look():
            self._stop_if_hopeless()

    def after_train(self):
        self._look()

    def _stop_if_hopeless(self) -> None:
        since = comm.all_gather(self._since_mark)[0]
        if self._patience and since >= self._patience:
            raise StopTraining(
                f"{self.metric} was not better for {since} evaluations; the best is {self.best}"
                f" of iteration {self.best_iter}"
            )

    def _look(self) -> bool:
        """Judge an evaluation that has not been judged; the main rank has the metrics."""
        if self._evaluate.count == self._seen:
            return False
        self._seen = self._evaluate.count
        with heard_by_all_ranks():
            value = self._value() if comm.is_main_process() else None
            if value is not None:
                self._judge(value, self._evaluate.done_until - 1)
        return True

    def _judge(self, value: float, iteration: int) -> None:
        self._since_mark += 1
        if self._mark is None or self._sign * (value - self._mark) > self._min_delta:
            self._mark, self._since_mark = value, 0
        if self.best is None or self._sign * (value - self.best) > 0:
            self.best, self.best_iter = value, iteration
            logger.info(f"Best so far: {self.metric} {value:.4f} at iteration {iteration}")
            if self._checkpointer is not None:
                best = {self.metric: value}
                self._checkpointer.save_weights(self.FILE, iteration=iteration, best=best)

    def _value(self) -> float | None:
        metrics = self._evaluate.metrics
        names = [k for k in metrics if k == self.metric or k.endswith("/" + self.metric)]
        if not names:
            if metrics:
                logger.warning(f"{self.metric} is none of the metrics {sorted(metrics)}")
            return None
        value = metrics[names[0]]
        return value if math.isfinite(value) else None

    def state_dict(self) -> dict[str, Any]:
        return {
            "metric": self.metric,
            "best": self.best,
            "best_iter": self.best_iter,
            "mark": self._mark,
            "since_mark": self._since_mark,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if state_dict["metric"] != self.metric:
            return  # another metric is watched now
        self.best, self.best_iter = state_dict["best"], state_dict["best_iter"]
        self._mark, self._since_mark = state_dict["mark"], state_dict["since_mark"]


class SaveCheckpoint(HookBase):
    """Same as Detectron2's PeriodicCheckpointer, on all ranks, as each has a random state to keep.

    Args:
        checkpointer: a :class:`~libra_umop.training.checkpoint.checkpointer.LibraCheckpointer`.
        period: write after every so many iterations, and after the last as ``model_final``.
    """

    def __init__(self, checkpointer, period: int):
        self._checkpointer = checkpointer
        self._period = period

    def after_step(self):
        iteration, name = self.trainer.iter, f"model_{self.trainer.iter:07d}"
        is_due = (iteration + 1) % self._period == 0
        if is_due:
            self._checkpointer.save(name, iteration=iteration)
        if iteration + 1 < self.trainer.max_iter:
            return
        if is_due:  # the same content, which may be large
            self._checkpointer.save_as("model_final", name)
        else:
            self._checkpointer.save("model_final", iteration=iteration)
