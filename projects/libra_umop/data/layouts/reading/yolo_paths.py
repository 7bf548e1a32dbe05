"""Where the pictures and the label files of a YOLO dataset lie.

The paths that it names are often those of another machine: of a notebook, of Windows, of a folder
above. What is still true of them is their end.
"""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ....errors import DatasetError
from ...defects import NOTE, short
from .builder import DocumentBuilder
from .pictures import is_picture, same_but_spelling, subfolders
from .split_names import split_of
from .yolo_lines import numbered_lines

__all__ = ["expected_label", "label_file", "labels_without_picture", "pictures_of"]


def pictures_of(
    file: str, root: str, config: dict[str, Any], key: str, builder: DocumentBuilder
) -> Iterator[str]:
    """The pictures that a key of a dataset's description names.

    Args:
        file: that describes the dataset.
        root: its folder.
        config: what it says: under ``key`` folders, pictures, or text files of paths.
        key: as "train".
        builder: where what is missing is recorded.

    Raises:
        DatasetError: a folder or a text file is not there.
    """
    entries = config[key] if isinstance(config[key], list) else [config[key]]
    bases = _bases(file, root, config, builder)
    for entry in entries:
        if not isinstance(entry, str):
            raise DatasetError(f"{file}: {key} is {short(entry)}, should be a folder or text file")
        path = _existing(entry, bases) or _by_its_end(entry, bases, least=_telling(entry))
        if path is None:
            looked = " and ".join(dict.fromkeys(os.path.join(base, entry) for base in bases))
            raise DatasetError(f"{file}: {key} is {short(entry)}, which is not there: {looked}")
        if _is_absolute(entry) and os.path.normpath(entry) != path:
            said = f"{key} is {short(entry)}, which is not here; taken is {builder.place(path)}"
            builder.defect("path", said, builder.place(file), NOTE)
        if os.path.isdir(path):
            for folder, names in subfolders(path):
                yield from (os.path.join(folder, name) for name in names if is_picture(name))
        elif is_picture(path):
            yield path
        else:
            yield from _listed(path, bases, builder)


def _bases(file: str, root: str, config: dict[str, Any], builder: DocumentBuilder) -> list[str]:
    """The folders that paths may be relative to: ``path`` of the description, and its own."""
    given = config.get("path")
    if not isinstance(given, str) or not given:
        return [root]
    bases = [os.path.normpath(os.path.join(root, given)), os.path.normpath(given)]
    bases = [base for base in dict.fromkeys(bases) if os.path.isdir(base)]
    if not bases:
        said = f"path is {short(given)}, which is not here; taken is the folder of this file"
        builder.defect("path", said, builder.place(file), NOTE)
    return [*bases, root]


def _is_absolute(entry: str) -> bool:
    return entry.startswith(("/", "\\")) or entry[1:2] == ":"


def _telling(entry: str) -> int:
    """How many parts of a path's end are needed to tell the splits apart: of x/train/images, 2."""
    parts = entry.replace("\\", "/").split("/")[::-1]
    return next((i for i, part in enumerate(parts, 1) if split_of(part)), 1)


def _existing(entry: str, bases: Sequence[str]) -> str | None:
    """Roboflow writes ``../train/images`` where the folder is ``train/images``."""
    entry = entry.replace("\\", "/")
    inside = entry
    while inside.startswith("../"):
        inside = inside[3:]
    tried = [os.path.normpath(os.path.join(base, e)) for e in (entry, inside) for base in bases]
    found = next((path for path in tried if os.path.exists(path)), None)
    if found or _is_absolute(entry):
        return found
    return next(filter(None, (same_but_spelling(base, inside) for base in bases)), None)


def _by_its_end(entry: str, bases: Sequence[str], *, least: int = 1) -> str | None:
    """A path of another machine, by its end of ``least`` parts or more, the longest first."""
    parts = entry.replace("\\", "/").split("/")
    tails = ("/".join(parts[i:]) for i in range(1, len(parts) - least + 1))
    return next(filter(None, (_existing(tail, bases) for tail in tails if tail)), None)


def _listed(file: str, bases: Sequence[str], builder: DocumentBuilder) -> Iterator[str]:
    """The pictures of a text file, one a line."""
    tried = [os.path.dirname(file), *bases]
    for number, line in numbered_lines(file):
        path = _existing(line, tried) or _by_its_end(line, tried)
        if path is None or not os.path.isfile(path):
            message = f"there is no image file {short(line)}"
            builder.defect("image_missing", message, builder.place(file, number))
        else:
            yield path


def expected_label(path: str) -> str:
    """``labels/`` for the last ``images/`` of a picture's path, and .txt."""
    folder, name = os.path.split(path)
    parts = folder.split(os.sep)
    if "images" in parts:
        last = len(parts) - 1 - parts[::-1].index("images")
        parts[last] = "labels"
    return os.path.join(os.sep.join(parts), f"{os.path.splitext(name)[0]}.txt")


def label_file(path: str) -> str | None:
    """The label file of a picture, by YOLO's rule or beside it."""
    tried = (expected_label(path), f"{os.path.splitext(path)[0]}.txt")
    return next((label for label in tried if os.path.isfile(label)), None)


def labels_without_picture(used: Mapping[str, str]) -> Iterator[str]:
    """The label files whose picture is not there, in the folders of those that are used.

    Args:
        used: the label file of each picture.
    """
    folders = {os.path.dirname(label): os.path.dirname(path) for path, label in used.items()}
    for folder, of_pictures in sorted(folders.items()):
        stems = {os.path.splitext(n)[0] for n in os.listdir(of_pictures) if is_picture(n)}
        for name in sorted(os.listdir(folder)):
            stem, suffix = os.path.splitext(name)
            path = os.path.join(folder, name)
            if suffix == ".txt" and stem not in stems and _has_objects(path):
                yield path


def _has_objects(file: str) -> bool:
    """Whether a text file begins with an object of YOLO's, and no name or path."""
    try:
        words = next(numbered_lines(file), (0, ""))[1].split()
        return len(words) >= 5 and all(map(math.isfinite, map(float, words)))
    except (DatasetError, ValueError):
        return False
