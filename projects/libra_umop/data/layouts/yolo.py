"""YOLO: pictures, a text file for each of them, and what names the classes and the splits.

That is a YAML file (https://docs.ultralytics.com/datasets/detect/), Darknet's ``obj.data`` and
``obj.names`` (CVAT, FiftyOne), or a bare ``classes.txt`` (LabelImg, Label Studio).
"""

import os
from functools import partial
from glob import escape, glob
from itertools import islice
from typing import Any

import yaml

from ...errors import ConfigError, DatasetError
from ..defects import short
from .reading.builder import DocumentBuilder
from .reading.layout import Content, Layout, Split
from .reading.pictures import is_picture, subfolders
from .reading.split_names import SPLITS, folders_of_splits, split_of
from .reading.yolo_lines import LineCounts, judge, numbered_lines, read_label_file, read_text
from .reading.yolo_paths import expected_label, label_file, labels_without_picture, pictures_of

__all__ = ["LAYOUTS"]

FILES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
NAMES = ("classes.txt", "*/classes.txt", "*/*/classes.txt", "*.names", "data/*.names")


def _find(path: str) -> list[Split]:
    """The splits of a folder with a data.yaml, or of such a file."""
    file = _data_yaml(path)
    if file is None:
        return []
    config, root = _load(file), os.path.dirname(file)
    names_splits = any(isinstance(key, str) and split_of(key) for key in config)
    if not names_splits and _has_labels(root):  # supervision's names the classes only
        config |= _named_lists(root)
    return _splits(file, root, config)


def _splits(file: str, root: str, config: dict[str, Any]) -> list[Split]:
    splits = []
    for name in SPLITS:
        keys = [key for key in config if isinstance(key, str) and split_of(key) == name]
        key = next((key for key in keys if config[key]), None)
        if key is not None:
            read = partial(_read, file, root, config, key)
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


def _find_names(root: str) -> list[Split]:
    """The splits of a folder without a YAML file, but with a list of the classes' names."""
    if not os.path.isdir(root) or _data_yaml(root) is not None:
        return []
    files = [f for name in NAMES for f in sorted(glob(os.path.join(escape(root), name)))]
    if not files or not _has_labels(root):
        return []
    names = [_lines_of(file) for file in files]
    for file, own in zip(files, names, strict=True):
        if own != names[0]:
            raise DatasetError(f"{file}: names other classes than {files[0]}; keep one of them")
    return _splits(files[0], root, {**_named_lists(root), "names": names[0]})


def _has_labels(root: str) -> bool:
    """Whether one of the first pictures has a label file of YOLO's."""
    paths = (os.path.join(f, n) for f, names in subfolders(root) for n in names if is_picture(n))
    return any(label_file(path) for path in islice(paths, 200))


def _named_lists(root: str) -> dict[str, list[str]]:
    """Text files or folders of the splits; the folder itself as "train" if there are none."""
    lists: dict[str, list[str]] = {}
    for file in [os.path.join(folder, n) for folder in ("", "data") for n in _texts(root, folder)]:
        stem = os.path.splitext(os.path.basename(file))[0]
        split = "train" if stem == "images" else split_of(stem)  # images.txt is FiftyOne's
        if split is not None and _names_pictures(os.path.join(root, file)):
            lists.setdefault(split, [file])
    for base in (os.path.join(root, "images"), root):
        if not lists:
            for split, folder in folders_of_splits(base):
                lists.setdefault(split, []).append(os.path.relpath(folder, root))
    return lists or {"train": ["."]}


def _texts(root: str, folder: str) -> list[str]:
    path = os.path.join(root, folder)
    return sorted(n for n in os.listdir(path) if n.endswith(".txt")) if os.path.isdir(path) else []


def _names_pictures(file: str) -> bool:
    try:
        return is_picture(next(numbered_lines(file), (0, ""))[1])
    except DatasetError:
        return False


def _lines_of(file: str) -> list[str]:
    """The lines of a text file, blank ones at its end left out."""
    last = max((number for number, _ in numbered_lines(file)), default=0)
    lines = dict(numbered_lines(file))
    missing = [n for n in range(1, last + 1) if n not in lines]
    if missing or not lines:
        raise DatasetError(f"{file}: line {(missing or [1])[0]} should be the name of a class")
    return list(lines.values())


def _load(file: str) -> dict[str, Any]:
    from ...config.loading import refuse_repeated_keys  # needs Detectron2

    try:
        text = read_text(file)
        config = yaml.safe_load(text)
        refuse_repeated_keys(text, file)
        as_written = yaml.load(text, yaml.BaseLoader)
    except ConfigError as e:
        raise DatasetError(str(e)) from e
    except (OSError, ValueError, yaml.YAMLError) as e:
        said = " ".join(str(getattr(e, "problem", None) or e).split())
        mark = getattr(e, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise DatasetError(f"{file}: is not YAML: {said}{where}") from e
    if not isinstance(config, dict):
        raise DatasetError(f"{file}: holds {short(config)}, should hold train, val and names")
    if config.get("names"):
        config["names"] = as_written["names"]  # a class may be called no, 007 or 1.0
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
        if not isinstance(name, str):
            raise DatasetError(f"{file}: names has {short(name)} as the name of class {number}")
        classes[number] = name
    if isinstance(count, int) and count != len(classes):
        raise DatasetError(f"{file}: nc is {count}, but names has {len(classes)} classes")
    return dict(sorted(classes.items()))


def _read(file: str, root: str, config: dict[str, Any], key: str) -> Content:
    builder = DocumentBuilder(root, _class_names(file, config))
    paths = list(dict.fromkeys(pictures_of(file, root, config, key, builder)))
    lines, used = LineCounts(), {}
    without = []
    for image_id, size, path in builder.add_images((path, path) for path in paths):
        label = label_file(path)
        if label is None:
            without.append(path)
            continue
        used[path] = label
        read_label_file(builder, image_id, size, label, config, lines)
    judge(builder, lines)
    if without and len(without) == len(paths):
        expected = builder.place(expected_label(without[0]))
        return builder.content(f"none of its {len(paths)} images has a label file, as {expected}")
    for path in without:
        said = "{} images have no label file: taken as images without objects"
        builder.count(said, builder.place(path))
    for label in labels_without_picture(used):
        builder.count("{} label files have no picture: left out", builder.place(label))
    return builder.content()


LAYOUTS = (
    Layout("YOLO", "data.yaml", _find),
    Layout("YOLO without YAML", "classes.txt or obj.names", _find_names),
)
