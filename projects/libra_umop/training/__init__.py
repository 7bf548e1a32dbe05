"""A run: the trainer, its step, its data, its checkpoints and hooks."""

from ..utils import needs_detectron2  # noqa: F401
