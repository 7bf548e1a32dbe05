"""What training makes of its images: Detectron2's transforms by key, crops and mosaics."""

from ...utils import needs_detectron2  # noqa: F401
from ...utils.lazy import offer

__all__, __getattr__, __dir__ = offer(
    __name__, {"mosaic": "Mosaic", "transforms": "training_augmentations"}
)
