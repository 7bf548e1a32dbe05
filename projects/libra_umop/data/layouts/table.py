"""The table of the layouts that are known, and finding a dataset's splits by it."""

import os
import re

from ...errors import DatasetError
from . import coco
from .layout import Layout, Split

__all__ = ["LAYOUTS", "dataset_name", "find_splits"]

LAYOUTS: tuple[Layout, ...] = (*coco.LAYOUTS,)
NAMES = ("train", "val", "test")


def find_splits(root: str) -> dict[str, Split]:
    """The splits of the dataset in the folder ``root``, by name, train first.

    Raises:
        DatasetError: no such folder, no training split, or a split that is there twice.
    """
    if not os.path.isdir(root):
        raise DatasetError(f"{root}: is not a folder; --dataset wants the folder of a dataset")
    found = [split for layout in LAYOUTS for split in layout.find(root)]
    splits = {}
    for name in NAMES:
        named = [split for split in found if split.name == name]
        if len(named) > 1:
            sources = " and ".join(split.source for split in named)
            raise DatasetError(f"{root}: {sources} are both the {name} split; keep one of them")
        if named:
            splits[name] = named[0]
    if "train" not in splits:
        wanted = " nor ".join(layout.wants for layout in LAYOUTS)
        there = ", ".join(sorted(os.listdir(root))[:8]) or "nothing"
        raise DatasetError(f"{root}: has neither {wanted}; it has {there}")
    return splits


def dataset_name(root: str) -> str:
    """A short name for the dataset in ``root``, made of letters, digits, ``_`` and ``-``."""
    return re.sub(r"[^\w-]+", "_", os.path.basename(os.path.abspath(root))).strip("_") or "dataset"
