"""COCO documents that lie in files, beside their images or apart from them."""

import os
from collections.abc import Sequence

from ...errors import DatasetError
from ..coco.document import read_json
from .layout import Content, Layout, Split

__all__ = ["LAYOUTS", "coco_file", "splits_from_files"]

# ``val`` and ``valid`` mean the same.
ALIASES = {"train": ("train",), "val": ("val", "valid"), "test": ("test",)}
ROBOFLOW_FILE = "_annotations.coco.json"


def coco_file(name: str, json_file: str, image_roots: Sequence[str]) -> Split:
    """A split that is a COCO JSON file.

    Args:
        name: "train", "val" or "test".
        json_file: its path.
        image_roots: the folders that its ``file_name`` may be relative to, the likeliest first.
    """
    return Split(
        name,
        json_file,
        lambda: Content(read_json(json_file), tuple(image_roots), is_file=True),
    )


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
        splits[name] = coco_file(name, json_file, (image_root,))
    if splits and "train" not in splits:
        raise DatasetError(
            "--val-json needs --train-json and --train-images, by which the classes are known"
        )
    return splits


def _find_annotations_folder(root: str) -> list[Split]:
    """``annotations/{split}.json``, images in ``images/{split}/``, ``images/`` or the folder."""
    found = []
    for name, aliases in ALIASES.items():
        for alias in aliases:
            json_file = os.path.join(root, "annotations", f"{alias}.json")
            folders = (os.path.join(root, "images", alias), os.path.join(root, "images"), root)
            if os.path.isfile(json_file):
                found.append(coco_file(name, json_file, [f for f in folders if os.path.isdir(f)]))
    return found


def _find_roboflow(root: str) -> list[Split]:
    """``{split}/_annotations.coco.json`` with the images beside it."""
    return [
        coco_file(name, json_file, (os.path.dirname(json_file),))
        for name, aliases in ALIASES.items()
        for json_file in (os.path.join(root, alias, ROBOFLOW_FILE) for alias in aliases)
        if os.path.isfile(json_file)
    ]


LAYOUTS = (
    Layout("COCO", "annotations/train.json", _find_annotations_folder),
    Layout("Roboflow's COCO", f"train/{ROBOFLOW_FILE}", _find_roboflow),
)
