"""When a checkpoint is written."""

from detectron2.engine import HookBase

__all__ = ["PeriodicCheckpointer"]


class PeriodicCheckpointer(HookBase):
    """Same as Detectron2's PeriodicCheckpointer, on all ranks, as each has a random state to keep.

    Args:
        checkpointer: a :class:`~libra_umop.training.checkpoint.checkpointer.LibraCheckpointer`.
        period: write after every so many iterations, and after the last as ``model_final``.
    """

    def __init__(self, checkpointer, period: int):
        self._checkpointer = checkpointer
        self._period = period

    def after_step(self):
        """Write the checkpoints that are due after this iteration."""
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
