"""Losses of dense detectors; importing this package registers those that a config can name."""

from ....utils.lazy import offer
from . import focal, hard_negatives, long_tail, quality  # noqa: F401

__all__, __getattr__, __dir__ = offer(
    __name__, {"classification": "ClassificationLoss register_cls_loss"}
)
