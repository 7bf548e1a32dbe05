"""COCO documents that lie in files, beside their images or apart from them."""

import os
import re
from collections.abc import Iterator, Sequence

from ...errors import DatasetError
from ..coco.document import read_json
from .reading.layout import Content, Layout, Split
from .reading.split_names import SPLITS, folders_of_splits, split_of

__all__ = ["LAST_LAYOUTS", "LAYOUTS", "OTHER_LAYOUTS", "coco_file", "splits_from_files"]

# COCO's documents of other kinds, which may lie beside.
OTHER_TASKS = re.compile("caption|keypoint|stuff|panoptic|image_info", re.IGNORECASE)
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
        _with_folders(split, json_file, root, f"images/{stem}")
        for split, stem, json_file in _named(root, re.compile(r"([a-z]+)\.json", re.IGNORECASE))
        if not _is_datumaros(json_file)
    ]


def _is_datumaros(json_file: str) -> bool:
    """Its own format has COCO's file names, and categories by kind."""
    with open(json_file, "rb") as f:
        return re.search(rb'"categories":\s*\{', f.read(4096)) is not None


def _find_roboflow(root: str) -> list[Split]:
    """``{split}/_annotations.coco.json`` with the images beside it."""
    found = ((s, f, os.path.join(f, ROBOFLOW_FILE)) for s, f in folders_of_splits(root))
    return [coco_file(s, file, (folder,)) for s, folder, file in found if os.path.isfile(file)]


def _find_years(root: str) -> list[Split]:
    """COCO's own: ``annotations/instances_train2017.json`` with the images in ``train2017/``.

    CVAT writes so too; the test split has ``image_info_test2017.json``, without annotations.
    """
    pattern = re.compile(r"(?:instances|image_info)_(.+)\.json", re.IGNORECASE)
    return [
        _with_folders(split, json_file, root, name, f"images/{name}")
        for split, name, json_file in _named(root, pattern)
        if split == "test" or "image_info" not in os.path.basename(json_file).lower()
    ]


def _find_one_file(root: str) -> list[Split]:
    """One document for all images: CVAT's, Label Studio's and FiftyOne's exports to COCO."""
    found = []
    for file, folder in SINGLE_FILES.items():
        json_file = os.path.join(root, *file.split("/"))
        if os.path.isfile(json_file) and _may_be_coco(json_file):
            found.append(_with_folders("train", json_file, root, folder))
    for split, folder in folders_of_splits(root):
        json_file = os.path.join(folder, "labels.json")
        if os.path.isfile(json_file) and _may_be_coco(json_file):
            found.append(_with_folders(split, json_file, folder, "data"))
    return found


def _find_other_names(root: str) -> list[Split]:
    """Documents of other names: one for each split that is named in them, or a single one."""
    folders = (root, os.path.join(root, "annotations"))
    files = [os.path.join(f, n) for f in folders for n in _listed(f) if n.endswith(".json")]
    files = [f for f in files if not OTHER_TASKS.search(os.path.basename(f)) and _is_coco(f)]
    named: list[tuple[str, str]] = []
    for file in files:
        words = re.split(r"[^a-z]+", os.path.basename(file).lower())
        named += [(split, file) for split in SPLITS if split in set(map(split_of, words))]
    if not named and len(files) == 1:
        named = [("train", files[0])]
    return [_with_folders(split, file, root, *_folders_in(root)) for split, file in named]


def _named(root: str, pattern: re.Pattern[str]) -> Iterator[tuple[str, str, str]]:
    """``(split, its name there, file)`` of the files in ``annotations/`` that are of a split."""
    folder = os.path.join(root, "annotations")
    for file in _listed(folder):
        match = pattern.fullmatch(file)
        split = split_of(match[1].rstrip("0123456789")) if match else None
        if match and split is not None:
            yield split, match[1], os.path.join(folder, file)


def _with_folders(name: str, json_file: str, root: str, *folders: str) -> Split:
    """A split whose images may lie in these folders, as far as there, or in the usual ones."""
    paths = [os.path.join(root, *f.split("/")) if f else root for f in folders]
    images = os.path.join(root, "images")
    for base in (images, root):
        paths += [folder for split, folder in folders_of_splits(base) if split == name]
    paths += [images, root]
    return coco_file(name, json_file, [p for p in dict.fromkeys(paths) if os.path.isdir(p)])


def _listed(folder: str) -> list[str]:
    return sorted(os.listdir(folder)) if os.path.isdir(folder) else []


def _folders_in(root: str) -> list[str]:
    return [name for name in _listed(root) if os.path.isdir(os.path.join(root, name))]


def _is_coco(json_file: str) -> bool:
    """Whether a file of any name is a COCO document with boxes or areas."""
    try:
        document = read_json(json_file)
    except DatasetError:
        return False
    if not isinstance(document, dict) or not isinstance(document.get("annotations"), list):
        return False
    return isinstance(document.get("images"), list) and "categories" in document


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
# Where there is nothing else at all.
LAST_LAYOUTS = (Layout("COCO in files of other names", "a COCO file", _find_other_names),)
# Where there are none of the first.
OTHER_LAYOUTS = (
    Layout("COCO's own folders", "annotations/instances_train2017.json", _find_years),
    Layout("COCO in one file", "labels.json or result.json", _find_one_file),
)
