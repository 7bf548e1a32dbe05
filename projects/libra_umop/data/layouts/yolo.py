"""YOLO: a YAML file that names classes and splits, pictures, and a text file for each of them.

https://docs.ultralytics.com/datasets/detect/
"""

import os
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import yaml

from ...errors import DatasetError
from ..defects import NOTE, short
from .layout import Content, Layout, Split
from .reading.builder import DocumentBuilder
from .reading.pictures import is_picture, subfolders
from .reading.yolo_lines import LineCounts, judge, numbered_lines, read_label_file

__all__ = ["LAYOUTS"]

FILES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
KEYS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}


def _find(path: str) -> list[Split]:
    """The splits of a folder with a data.yaml, or of such a file."""
    file = _data_yaml(path)
    if file is None:
        return []
    config = _load(file)
    splits = []
    for name, keys in KEYS.items():
        key = next((key for key in keys if config.get(key)), None)
        if key is not None:
            read = partial(_read, file, config, key, name)
            splits.append(Split(name, f"{file} ({key})", read))
    return splits


def _data_yaml(path: str) -> str | None:
    if os.path.isfile(path):
        return path if path.endswith((".yaml", ".yml")) else None
    usual = [os.path.join(path, name) for name in FILES]
    found = next((file for file in usual if os.path.isfile(file)), None)
    if found is not None:
        return found
    others = sorted(n for n in os.listdir(path) if n.endswith((".yaml", ".yml")))
    return next((f for f in (os.path.join(path, n) for n in others) if _is_of_a_dataset(f)), None)


def _is_of_a_dataset(file: str) -> bool:
    try:
        config = _load(file)
    except DatasetError:
        return False
    return bool({"names", "nc"} & set(config)) and any(key in config for key in ("train", "val"))


def _load(file: str) -> dict[str, Any]:
    try:
        with open(file, encoding="utf-8-sig") as f:
            config = yaml.safe_load(f)
    except (OSError, ValueError, yaml.YAMLError) as e:
        said = " ".join(str(getattr(e, "problem", None) or e).split())
        mark = getattr(e, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise DatasetError(f"{file}: is not YAML: {said}{where}") from e
    if not isinstance(config, dict):
        raise DatasetError(f"{file}: holds {short(config)}, should hold train, val and names")
    return config


def _class_names(file: str, config: dict[str, Any]) -> dict[int, str]:
    """The name of each class index."""
    names, count = config.get("names"), config.get("nc")
    if names is None and isinstance(count, int) and 0 < count < 100_000:
        names = [f"class_{i}" for i in range(count)]  # as Ultralytics calls them
    want = "should list the names of the classes, or name each class index"
    if isinstance(names, (list, tuple)):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names:
        raise DatasetError(f"{file}: names is {short(names)}, {want}")
    classes = {}
    for index, name in names.items():
        number = int(index) if isinstance(index, str) and index.isdecimal() else index
        if type(number) is not int or number < 0 or number in classes:
            raise DatasetError(f"{file}: names has the class index {short(index)}, {want}")
        classes[number] = str(name)
    if isinstance(count, int) and count != len(classes):
        raise DatasetError(f"{file}: nc is {count}, but names has {len(classes)} classes")
    return dict(sorted(classes.items()))


def _read(file: str, config: dict[str, Any], key: str, name: str) -> Content:
    builder = DocumentBuilder(os.path.dirname(file), _class_names(file, config))
    paths = list(dict.fromkeys(_images(file, config, key, builder)))
    lines = LineCounts()
    without = []
    for image_id, size, path in builder.add_images((path, path) for path in paths):
        label = _label_file(path)
        if label is None:
            without.append(path)
            continue
        read_label_file(builder, image_id, size, label, config, lines)
    judge(builder, lines)
    if without and len(without) == len(paths):
        expected = builder.place(_expected_label(without[0]))
        return builder.content(f"none of its {len(paths)} images has a label file, as {expected}")
    for path in without:
        said = "{} images have no label file: taken as images without objects"
        builder.count(said, builder.place(path))
    return builder.content()


def _images(file: str, config: dict[str, Any], key: str, builder: DocumentBuilder) -> Iterator[str]:
    """The pictures that a key of the YAML file names: folders, or text files of paths."""
    entries = config[key] if isinstance(config[key], list) else [config[key]]
    bases = _bases(file, config, builder)
    for entry in entries:
        if not isinstance(entry, str):
            raise DatasetError(f"{file}: {key} is {short(entry)}, should be a folder or text file")
        path = _existing(entry, bases)
        if path is None:
            looked = " and ".join(dict.fromkeys(os.path.join(base, entry) for base in bases))
            raise DatasetError(f"{file}: {key} is {short(entry)}, which is not there: {looked}")
        if os.path.isdir(path):
            for folder, names in subfolders(path):
                yield from (os.path.join(folder, name) for name in names if is_picture(name))
        elif is_picture(path):
            yield path
        else:
            yield from _listed(path, bases, builder)


def _bases(file: str, config: dict[str, Any], builder: DocumentBuilder) -> list[str]:
    """The folders that paths may be relative to: the YAML file's ``path``, and its own."""
    own = os.path.dirname(file)
    given = config.get("path")
    if not isinstance(given, str) or not given:
        return [own]
    bases = [os.path.normpath(os.path.join(own, given)), os.path.normpath(given)]
    bases = [base for base in dict.fromkeys(bases) if os.path.isdir(base)]
    if not bases:
        said = f"path is {short(given)}, which is not here; taken is the folder of this file"
        builder.defect("path", said, builder.place(file), NOTE)
    return [*bases, own]


def _existing(entry: str, bases: Sequence[str]) -> str | None:
    """Roboflow writes ``../train/images`` where the folder is ``train/images``."""
    entry = entry.replace("\\", "/")
    inside = entry
    while inside.startswith("../"):
        inside = inside[3:]
    tried = [os.path.normpath(os.path.join(base, e)) for e in (entry, inside) for base in bases]
    return next((path for path in tried if os.path.exists(path)), None)


def _listed(file: str, bases: Sequence[str], builder: DocumentBuilder) -> Iterator[str]:
    """The pictures of a text file, one a line; paths of another machine by the end of theirs."""
    for number, line in numbered_lines(file):
        tried = [os.path.dirname(file), *bases]
        path = _existing(line, tried)
        parts = line.replace("\\", "/").split("/")
        tails = ("/".join(parts[i:]) for i in range(1, len(parts)))
        path = path or next(filter(None, (_existing(tail, tried) for tail in tails if tail)), None)
        if path is None or not os.path.isfile(path):
            message = f"there is no image file {short(line)}"
            builder.defect("image_missing", message, builder.place(file, number))
        else:
            yield path


def _expected_label(path: str) -> str:
    """``labels/`` for the last ``images/`` of the path, and .txt."""
    folder, name = os.path.split(path)
    parts = folder.split(os.sep)
    if "images" in parts:
        last = len(parts) - 1 - parts[::-1].index("images")
        parts[last] = "labels"
    return os.path.join(os.sep.join(parts), f"{os.path.splitext(name)[0]}.txt")


def _label_file(path: str) -> str | None:
    """The label file of a picture, by YOLO's rule or beside it."""
    tried = (_expected_label(path), f"{os.path.splitext(path)[0]}.txt")
    return next((label for label in tried if os.path.isfile(label)), None)


LAYOUTS = (Layout("YOLO", "data.yaml", _find),)
