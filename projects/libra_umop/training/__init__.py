"""A run: the trainer, its step, its data, its checkpoints and hooks."""

from ..utils import needs_detectron2  # noqa: F401
from ..utils.lazy import offer

__all__, __getattr__, __dir__ = offer(
    __name__,
    {
        "checkpoint.checkpointer": "LibraCheckpointer",
        "optimizer": "build_optimizer",
        "trainer": "LibraTrainer",
    },
)
