"""The table of the layouts that are known, and finding a dataset's splits by it."""

import os
import re

from ...errors import DatasetError
from . import coco, cvat, voc, yolo
from .annotation_tools import createml, fiftyone, label_studio, labelme
from .reading.layout import Layout, Split
from .reading.recognised import looks_like
from .reading.split_names import SPLITS

__all__ = ["LAYOUTS", "dataset_name", "find_splits"]

# The first of these groups with a training split is the dataset, whatever else lies beside it: what
# was COCO stays so. Within a group nothing may be there twice.
GROUPS: tuple[tuple[Layout, ...], ...] = (
    coco.LAYOUTS,
    coco.OTHER_LAYOUTS,
    (
        *yolo.LAYOUTS,
        *voc.LAYOUTS,
        *cvat.LAYOUTS,
        *label_studio.LAYOUTS,
        *fiftyone.LAYOUTS,
        *labelme.LAYOUTS,
        *createml.LAYOUTS,
    ),
    coco.LAST_LAYOUTS,
)
# cells.zip unpacked into cells/ often gives cells/cells/.
MOST_NESTED = 3
LAYOUTS = tuple(layout for group in GROUPS for layout in group)


def find_splits(root: str, *, needs_train: bool = True) -> dict[str, Split]:
    """The splits of the dataset in ``root``, by name, train first.

    Args:
        root: its folder, or a file that describes it, as data.yaml or annotations.xml.
        needs_train: there has to be a training split.

    Raises:
        DatasetError: no such folder, no training split, or a split that is there twice.
    """
    if not os.path.exists(root):
        raise DatasetError(f"{root}: is not a folder; --dataset wants the folder of a dataset")
    splits: dict[str, Split] = {}
    for folder in _ways_in(root):
        splits = splits or _best_of(folder)
    if "train" not in splits and (needs_train or not splits):
        raise DatasetError(f"{root}: {_nothing_in(root, splits)}")
    return splits


def _best_of(root: str) -> dict[str, Split]:
    """The splits of the first group that has a training split, else of the first with any."""
    splits: dict[str, Split] = {}
    for group in GROUPS:
        found = _of(root, group)
        if "train" in found:
            return found
        splits = splits or found
    return splits


def _ways_in(root: str) -> list[str]:
    """``root``, and the folders that are all there is but for files, as unpacking leaves them."""
    ways = [root]
    while len(ways) < MOST_NESTED and os.path.isdir(ways[-1]):
        entries = [e for e in os.scandir(ways[-1]) if e.is_dir()]
        folders = [e.path for e in entries if not e.name.startswith((".", "__"))]
        if len(folders) != 1:
            break
        ways += folders
    return ways


def _of(root: str, layouts: tuple[Layout, ...]) -> dict[str, Split]:
    found = [split for layout in layouts for split in layout.find(root)]
    splits = {}
    for name in SPLITS:
        named = [split for split in found if split.name == name]
        if len(named) > 1:
            sources = " and ".join(split.source for split in named)
            raise DatasetError(f"{root}: {sources} are both the {name} split; keep one of them")
        if named:
            splits[name] = named[0]
    return splits


def _nothing_in(root: str, splits: dict[str, Split]) -> str:
    """Why no training split was found."""
    if os.path.isfile(root):
        return "is no file that describes a dataset, as data.yaml does; give the dataset's folder"
    there = ", ".join(sorted(os.listdir(root))[:8]) or "nothing"
    likely = looks_like(*_ways_in(root)) if not splits else ""
    if likely:
        return f"looks like {likely}; it has {there}"
    wanted = ", ".join(layout.wants for layout in LAYOUTS[:-1])
    return f"has no training split ({wanted} or {LAYOUTS[-1].wants}); it has {there}"


def dataset_name(root: str) -> str:
    """A short name for the dataset in ``root``, made of letters, digits, ``_`` and ``-``."""
    path = os.path.abspath(root)
    path = os.path.dirname(path) if os.path.isfile(path) else path
    return re.sub(r"[^\w-]+", "_", os.path.basename(path)).strip("_") or "dataset"
