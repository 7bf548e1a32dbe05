"""Detectron2's transforms of single images by key."""

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T

from .crops import FixedSizeCrop, RandomCrop

__all__ = ["training_augmentations"]


class _SaturationOfBGR(T.RandomSaturation):
    """Detectron2's takes the grey value of an RGB image."""

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """Same interface as the parent's, for a BGR image."""
        return super().get_transform(image[..., ::-1])


def training_augmentations(cfg: CfgNode) -> list[T.Augmentation]:
    """Detectron2's transforms by key: random crop, colour, size, flip, in this order.

    They draw from numpy's generator alone, which the training loader seeds for each sample.
    """
    resize, *flips = utils.build_augmentation(cfg, is_train=True)
    crop = cfg.INPUT.CROP
    found = [RandomCrop(crop.TYPE, crop.SIZE, crop.OBJECT_PROB)] if crop.ENABLED else []
    strength = cfg.INPUT.COLOR_JITTER
    if strength:
        saturation = _SaturationOfBGR if cfg.INPUT.FORMAT == "BGR" else T.RandomSaturation
        changes = (T.RandomBrightness, T.RandomContrast, saturation)
        found += [change(1 - strength, 1 + strength) for change in changes]
    if not cfg.INPUT.SCALE_JITTER:
        return [*found, resize, *flips]
    side, (smallest, largest) = cfg.INPUT.MAX_SIZE_TRAIN, cfg.INPUT.SCALE_JITTER
    scaled = T.ResizeScale(smallest, largest, target_height=side, target_width=side)
    # Not padded, as that hides where the image ends: boxes that a crop has cut would reach into it.
    return [*found, scaled, FixedSizeCrop((side, side), pad=False), *flips]
