"""What people call the parts of a dataset: names of folders, files, tags and keys."""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from .layout import Content, Split

__all__ = ["SPLITS", "folders_of_splits", "split_in", "split_of", "splits_by_folders"]

SPLITS = ("train", "val", "test")
ALIASES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
_YEAR = re.compile(r"[-_ ]?(19|20)\d\d$")


def split_of(name: str) -> str | None:
    """The split that a name means, in any letter case, with a year or without; None for others.

    >>> split_of("Valid"), split_of("train2017"), split_of("trainer")
    ('val', 'train', None)
    """
    return ALIASES.get(_YEAR.sub("", name.strip()).casefold())


def split_in(root: str, path: str) -> str | None:
    """The split that the first folder so named on the way from ``root`` to a file means."""
    folders = os.path.relpath(os.path.dirname(path), root).split(os.sep)
    return next(filter(None, map(split_of, folders)), None)


def splits_by_folders(
    root: str,
    files: Sequence[str],
    read: Callable[[str, Sequence[str], Sequence[str], Sequence[str]], Content],
) -> list[Split]:
    """The splits of a dataset whose annotation files lie in folders that name their splits.

    Args:
        root: of the dataset.
        files: all its annotation files.
        read: given ``root``, a split's own files, all files, and those of no split.
    """
    splits, others = _by_folders(root, files)
    return [
        Split(split, os.path.dirname(own[0]), partial(read, root, own, files, others))
        for split, own in splits.items()
    ]


def _by_folders(root: str, files: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Files by the split of their folders, and those of none; all are "train" if none names one."""
    found: dict[str | None, list[str]] = {}
    for file in files:
        found.setdefault(split_in(root, file), []).append(file)
    of_none = found.pop(None, [])
    splits = {name: found[name] for name in SPLITS if name in found}
    if not splits and of_none:
        return {"train": of_none}, []
    return splits, of_none


def folders_of_splits(root: str) -> Iterator[tuple[str, str]]:
    """``(split, folder)`` of the folders in ``root`` that are named after one."""
    for name in sorted(os.listdir(root)) if os.path.isdir(root) else ():
        split, folder = split_of(name), os.path.join(root, name)
        if split is not None and os.path.isdir(folder):
            yield split, folder
