"""COCO documents that lie in files, beside their images or apart from them."""

import os
import re
from collections.abc import Iterator, Sequence

from ...errors import DatasetError
from ..coco.document import read_json
from .layout import Content, Layout, Split

__all__ = ["LAYOUTS", "OTHER_LAYOUTS", "coco_file", "splits_from_files"]

# ``val`` and ``valid`` mean the same.
ALIASES = {"train": ("train",), "val": ("val", "valid"), "test": ("test",)}
ROBOFLOW_FILE = "_annotations.coco.json"
# Files that hold all images, and where these are: of CVAT, FiftyOne, Label Studio and Roboflow.
SINGLE_FILES = {
    "annotations/instances_default.json": "images/default",
    "labels.json": "data",
    "result.json": "images",
    ROBOFLOW_FILE: "",
}


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


def _find(root: str) -> list[Split]:
    """``annotations/{split}.json``, images in ``images/{split}/``, ``images/`` or the folder."""
    return [
        _with_folders(name, json_file, root, f"images/{alias}", "images", "")
        for name, alias, json_file in _files(root, "annotations/{alias}.json")
    ]


def _find_roboflow(root: str) -> list[Split]:
    """``{split}/_annotations.coco.json`` with the images beside it."""
    return [
        coco_file(name, json_file, (os.path.dirname(json_file),))
        for name, _, json_file in _files(root, f"{{alias}}/{ROBOFLOW_FILE}")
    ]


def _find_years(root: str) -> list[Split]:
    """COCO's own: ``annotations/instances_train2017.json`` with the images in ``train2017/``.

    CVAT writes so too; the test split has ``image_info_test2017.json``, without annotations.
    """
    found = []
    for name, aliases in ALIASES.items():
        for alias in (*aliases, *(["validation"] if name == "val" else [])):
            pattern = re.compile(rf"(instances|image_info)_({alias}\d*)\.json", re.IGNORECASE)
            for file in _listed(os.path.join(root, "annotations")):
                match = pattern.fullmatch(file)
                if match and (match[1] == "instances" or name == "test"):
                    json_file = os.path.join(root, "annotations", file)
                    folders = (match[2], f"images/{match[2]}", f"images/{alias}", "images", "")
                    found.append(_with_folders(name, json_file, root, *folders))
    return found


def _find_one_file(root: str) -> list[Split]:
    """One document for all images: CVAT's, Label Studio's and FiftyOne's exports to COCO."""
    found = []
    for file, folder in SINGLE_FILES.items():
        json_file = os.path.join(root, *file.split("/"))
        if os.path.isfile(json_file) and _may_be_coco(json_file):
            found.append(_with_folders("train", json_file, root, folder, "images", ""))
    for name, alias, json_file in _files(root, "{alias}/labels.json"):
        if _may_be_coco(json_file):
            found.append(_with_folders(name, json_file, os.path.join(root, alias), "data", ""))
    return found


def _files(root: str, pattern: str) -> Iterator[tuple[str, str, str]]:
    """``(split, alias, file)`` of the files of a pattern that are there."""
    for name, aliases in ALIASES.items():
        for alias in aliases:
            json_file = os.path.join(root, *pattern.format(alias=alias).split("/"))
            if os.path.isfile(json_file):
                yield name, alias, json_file


def _with_folders(name: str, json_file: str, root: str, *folders: str) -> Split:
    """A split whose images may lie in these folders, as far as there."""
    paths = [os.path.join(root, *f.split("/")) if f else root for f in folders]
    return coco_file(name, json_file, [p for p in dict.fromkeys(paths) if os.path.isdir(p)])


def _listed(folder: str) -> list[str]:
    return sorted(os.listdir(folder)) if os.path.isdir(folder) else []


def _may_be_coco(json_file: str) -> bool:
    """False for the files of other layouts that have the same name."""
    try:
        document = read_json(json_file)
    except DatasetError:
        return True  # which will be said when it is read
    return isinstance(document, dict) and "images" in document


LAYOUTS = (
    Layout("COCO", "annotations/train.json", _find),
    Layout("Roboflow's COCO", f"train/{ROBOFLOW_FILE}", _find_roboflow),
)
# Where there are none of these.
OTHER_LAYOUTS = (
    Layout("COCO's own folders", "annotations/instances_train2017.json", _find_years),
    Layout("COCO in one file", "labels.json or result.json", _find_one_file),
)
