"""Where the images and annotations of a dataset lie.

Two layouts are known; ``valid`` and ``val`` mean the same:

* ``DIR/annotations/{train,val,test}.json`` with the images in ``DIR/images/`` or
  ``DIR/images/{split}/``;
* ``DIR/{train,valid,test}/_annotations.coco.json`` with the images beside it, as Roboflow exports.
"""

import os
import re
from dataclasses import dataclass

from ...errors import DatasetError

SPLITS = {"train": ("train",), "val": ("val", "valid"), "test": ("test",)}
ROBOFLOW_FILE = "_annotations.coco.json"


@dataclass(frozen=True)
class Split:
    """One part of a dataset.

    Attributes:
        name: "train", "val" or "test".
        json_file: its COCO JSON file.
        image_roots: the folders that ``file_name`` may be relative to, the likeliest first.
    """

    name: str
    json_file: str
    image_roots: tuple[str, ...]


def find_splits(root: str) -> dict[str, Split]:
    """The splits of the dataset in the folder ``root``, by name, train first.

    Raises:
        DatasetError: no such folder, no training split, or a split without its images.
    """
    if not os.path.isdir(root):
        raise DatasetError(f"{root}: is not a folder; --dataset wants the folder of a dataset")
    splits = {}
    for name, aliases in SPLITS.items():
        found = [split for alias in aliases for split in _find(root, name, alias)]
        if len(found) > 1:
            files = " and ".join(split.json_file for split in found)
            raise DatasetError(f"{root}: {files} are both the {name} split; keep one of them")
        if found:
            splits[name] = found[0]
    if "train" not in splits:
        raise DatasetError(
            f"{root}: has neither annotations/train.json nor train/{ROBOFLOW_FILE}; it has"
            f" {', '.join(sorted(os.listdir(root))[:8]) or 'nothing'}"
        )
    return splits


def dataset_name(root: str) -> str:
    """A short name for the dataset in ``root``, made of letters, digits, ``_`` and ``-``."""
    return re.sub(r"[^\w-]+", "_", os.path.basename(os.path.abspath(root))).strip("_") or "dataset"


def _find(root: str, name: str, alias: str) -> list[Split]:
    found = []
    json_file = os.path.join(root, "annotations", f"{alias}.json")
    if os.path.isfile(json_file):
        folders = (os.path.join(root, "images", alias), os.path.join(root, "images"), root)
        found.append(Split(name, json_file, tuple(f for f in folders if os.path.isdir(f))))
    json_file = os.path.join(root, alias, ROBOFLOW_FILE)
    if os.path.isfile(json_file):
        found.append(Split(name, json_file, (os.path.join(root, alias),)))
    return found


def splits_from_files(
    train: tuple[str | None, str | None], val: tuple[str | None, str | None]
) -> dict[str, Split]:
    """The splits named file by file.

    Args:
        train, val: ``(json_file, image_root)``; both None for no such split.

    Raises:
        DatasetError: one of a pair is missing, or is not there.
    """
    splits = {}
    for name, (json_file, image_root) in (("train", train), ("val", val)):
        if json_file is None and image_root is None:
            continue
        if json_file is None or image_root is None:
            missing = "json" if json_file is None else "images"
            raise DatasetError(
                f"--{name}-json and --{name}-images go together: --{name}-{missing} is missing"
            )
        if not os.path.isdir(image_root):
            raise DatasetError(f"{image_root}: --{name}-images is not a folder")
        splits[name] = Split(name, json_file, (image_root,))
    if splits and "train" not in splits:
        raise DatasetError(
            "--val-json needs --train-json and --train-images, by which the classes are known"
        )
    return splits
