"""What is best so far, and when there is no more to gain."""

import logging
import math
from typing import Any

from detectron2.engine import HookBase
from detectron2.utils import comm

from ...errors import StopTraining
from ...utils.ranks import heard_by_all_ranks
from .evaluation import EvalHook

__all__ = ["BestCheckpointHook"]

logger = logging.getLogger(__name__)


class BestCheckpointHook(HookBase):
    """Keeps the weights of the best evaluation, and ends training when none gets better.

    It belongs behind :class:`EvalHook`. The best value, its iteration and the evaluations since
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
        evaluate: EvalHook,
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
        """Judge the evaluation of a resumed run, which may have no iteration left to try."""
        self._look()
        self._stop_if_hopeless()

    def after_step(self):
        """Judge an evaluation of this iteration; raises StopTraining once patience is out."""
        if self._look():
            self._stop_if_hopeless()

    def after_train(self):
        """Judge the last evaluation."""
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
        """The best value and its iteration, and what patience counts, for the checkpoint."""
        return {
            "metric": self.metric,
            "best": self.best,
            "best_iter": self.best_iter,
            "mark": self._mark,
            "since_mark": self._since_mark,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up a :meth:`state_dict`, unless another metric is watched now."""
        if state_dict["metric"] != self.metric:
            return  # another metric is watched now
        self.best, self.best_iter = state_dict["best"], state_dict["best_iter"]
        self._mark, self._since_mark = state_dict["mark"], state_dict["since_mark"]
