"""Writing what is usable of a dataset as clean COCO."""

import os
import shutil
from collections.abc import Iterable

from ...errors import DatasetError
from ..coco.document import CocoData, write_coco
from .checking import UNUSABLE, CheckedDataset

__all__ = ["refuse_used_folder", "write_clean"]


def refuse_used_folder(folder: str) -> None:
    """Raise DatasetError unless ``folder`` is empty or not there."""
    if os.path.lexists(folder) and not (os.path.isdir(folder) and not os.listdir(folder)):
        raise DatasetError(f"{folder}: is there and not empty; --convert wants a new folder")


def write_clean(checked: CheckedDataset, folder: str) -> list[str]:
    """Write ``folder/annotations/{split}.json`` and ``folder/images/{split}/``.

    Boxes, masks, classes and ids are those that training sees. Image files are second names of the
    user's (hard links), or copies where the file system has none between the two folders.

    Returns:
        lines for people.

    Raises:
        DatasetError: the dataset cannot be used, or the folder is in use.
    """
    if checked.exit_code == UNUSABLE:
        raise DatasetError("nothing is converted, as training would refuse the dataset; see above")
    refuse_used_folder(folder)
    lines = []
    for name, data in checked.splits.items():
        if data.errors:  # a test split that training leaves out
            continue
        images = os.path.join(folder, "images", name)
        _put(data, (image["file_name"] for image in data.images), images)
        path = os.path.join(folder, "annotations", f"{name}.json")
        write_coco(data, checked.classes, path)
        lines.append(f"{path}: {len(data.images)} images, {len(data.annotations)} annotations")
    return lines


def _put(data: CocoData, names: Iterable[str], folder: str) -> None:
    os.makedirs(folder, exist_ok=True)
    for name in names:
        source, target = os.path.join(data.image_root, name), os.path.join(folder, name)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if os.path.exists(target):  # two entries of one file
            continue
        try:
            os.link(os.path.realpath(source), target)
        except OSError:
            shutil.copyfile(source, target)
