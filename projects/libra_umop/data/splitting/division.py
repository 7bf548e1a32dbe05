"""Making a validation split of a dataset that has none, the same one every time.

Images that belong together stay together: copies of one picture, frames of one clip, and
near-duplicates. The groups are shuffled by a hash of their names and the seed, and the first of
them become the validation split: that depends on nothing but the dataset.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from ...errors import ConfigError, DatasetError
from ...utils.atomic_files import atomic_write
from ..coco.document import read_json
from ..coco.values import is_text
from ..defects import NOTE, Defect, short
from ..file_names import ImageFolder
from ..layouts.reading.layout import Content, Split
from .groups import LARGEST_CLIP, Groups, look_alike, same_name

__all__ = ["Division", "divide", "keep_record", "read_record"]

RECORD = "split.json"


class Division(NamedTuple):
    """Which images of a training split are for validation.

    Attributes:
        train, val: their ``file_name``.
        words: how it came about, for people.
    """

    train: list[str]
    val: list[str]
    words: str


def divide(split: Split, wanted: float | str, seed: int = 0) -> tuple[dict[str, Split], Division]:
    """Make "train" and "val" of a training split.

    Args:
        split: which has all images.
        wanted: the part that stays for training, in (0, 1), or the file of an earlier division.
        seed: another one gives another division.

    Returns:
        both splits, and the division.

    Raises:
        DatasetError: it cannot be read, or has too few images; ``wanted`` is no such file.
    """
    content = split.read()
    names = _names(content.document)
    if len(set(names)) < 2:
        raise DatasetError(f"{split.source}: has {len(set(names))} images, too few for --split")
    if isinstance(wanted, str):
        division = read_record(wanted, names)
    else:
        division = _shuffle(content, list(dict.fromkeys(names)), wanted, seed)
    for part, own in (("train", division.train), ("val", division.val)):
        if not own:
            raise DatasetError(
                f"{split.source}: --split leaves no image for {part}: {division.words}"
            )
    val = frozenset(division.val)
    parts = {
        "train": _part(content, val, of_val=False),
        "val": _part(content, val, of_val=True),
    }
    parts["train"].defects.append(Defect("divided", division.words, NOTE))
    return {
        name: Split(name, f"{split.source} [{name}]", partial(_same, part))
        for name, part in parts.items()
    }, division


def _same(content: Content) -> Content:
    return content


def _images(document: Any) -> list[dict[str, Any]]:
    images = document.get("images") if isinstance(document, Mapping) else None
    images = images if isinstance(images, list) else []
    return [i for i in images if isinstance(i, dict) and is_text(i.get("file_name"))]


def _names(document: Any) -> list[str]:
    return [image["file_name"] for image in _images(document)]


def _shuffle(content: Content, names: list[str], part: float, seed: int) -> Division:
    groups, words = _groups(content, names)
    by_hash = sorted(groups, key=lambda g: _hash(f"{seed} {min(names[i] for i in g)}"))
    wanted = min(max(round((1 - part) * len(names)), 1), len(names) - 1)
    classes = _classes(content.document, names)
    val = _choose(by_hash, wanted, classes) or _choose(by_hash, wanted, [set()] * len(names))
    chosen = set(val)
    train = [name for i, name in enumerate(names) if i not in chosen]
    said = f"--split {part:g}, seed {seed}: {len(train)} of {len(names)} images are for training,"
    said += f" {len(chosen)} for validation; {words}"
    return Division(train, [names[i] for i in sorted(chosen)], said)


def _choose(groups: list[list[int]], wanted: int, classes: Sequence[set[Any]]) -> list[int]:
    """The images for validation: the first groups that leave an image of each class to training."""
    left = Counter(c for own in classes for c in own)
    val: list[int] = []
    for group in groups:
        own = Counter(c for i in group for c in classes[i])
        fits = len(val) + len(group) <= wanted or (not val and len(group) < len(classes))
        if fits and all(count < left[c] for c, count in own.items()):
            val += group
            left -= own
    return val


def _classes(document: Any, names: list[str]) -> list[set[Any]]:
    """The category ids of the objects of each image."""
    images: dict[Any, str] = {}
    for image in _images(document):
        if isinstance(image.get("id"), (int, str)):
            images[image["id"]] = image["file_name"]
    found: dict[str, set[Any]] = {name: set() for name in names}
    annotations = document.get("annotations")
    for a in annotations if isinstance(annotations, list) else ():
        if not isinstance(a, dict) or a.get("iscrowd"):
            continue
        image_id, class_id = a.get("image_id"), a.get("category_id")
        known = isinstance(image_id, (int, str)) and image_id in images
        if known and isinstance(class_id, (int, str)):
            found[images[image_id]].add(class_id)
    return [found[name] for name in names]


def _groups(content: Content, names: list[str]) -> tuple[list[list[int]], str]:
    """The groups, each in the order of the names, and how they were told."""
    groups = Groups(len(names))
    keys, are_clips = same_name(names)
    same = groups.join_equal(keys)
    how = "frames of one clip by their names" if are_clips else "copies by their names"
    words = [f"{same} {how}"] if same else []
    paths = _paths(content, names)
    alike = Groups(len(names))
    alike.join_equal([groups.of(i) for i in range(len(names))])
    most = max(LARGEST_CLIP * len(names), 2)
    if paths and look_alike(paths, alike):
        before = groups.count
        for members in alike.members:
            for i in members[1:] if len(members) <= most else ():
                groups.join(members[0], i)
        joined = before - groups.count
        words += [f"{joined} that look alike"] if joined else []
        many = sum(len(members) for members in alike.members if len(members) > most)
        words += [f"too many look alike to keep those together ({many})"] if many else []
    return groups.members, f"kept together: {', '.join(words) or 'none'}"


def _paths(content: Content, names: list[str]) -> list[str]:
    """The files of the images, where they lie in one folder by just these names."""
    folders = [ImageFolder(root) for root in content.image_roots]
    hits = [sum(map(folder.has, names[:100])) for folder in folders]
    if not any(hits):
        return []
    root = folders[hits.index(max(hits))].root
    return [os.path.join(root, name) for name in names]


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest()


def _part(content: Content, val: frozenset[str], *, of_val: bool) -> Content:
    """The document with the images of one part and their annotations.

    What is no sound image or annotation goes to the training part, where it is named.
    """
    document = content.document
    ids = [i.get("id") for i in _images(document) if i["file_name"] in val]
    val_ids = {i for i in ids if isinstance(i, (int, str))}

    def belongs(is_val: bool) -> bool:
        return is_val == of_val

    def is_in_val(annotation: Any) -> bool:
        image_id = annotation.get("image_id") if isinstance(annotation, dict) else None
        return isinstance(image_id, (int, str)) and image_id in val_ids

    def is_val_image(image: Any) -> bool:
        name = image.get("file_name") if isinstance(image, dict) else None
        return isinstance(name, str) and name in val

    part = dict(document)
    part["images"] = [i for i in document["images"] if belongs(is_val_image(i))]
    if isinstance(document.get("annotations"), list):
        part["annotations"] = [a for a in document["annotations"] if belongs(is_in_val(a))]
    defects = [] if of_val else list(content.defects)
    return replace(content, document=part, defects=defects, is_file=False)


def keep_record(division: Division, folder: str, *, replace_other: bool) -> None:
    """Write which images are for what as ``folder/split.json``, for ``--split FILE``.

    Raises:
        ConfigError: there is the record of another division, which is not to be replaced.
    """
    path = os.path.join(folder, RECORD)
    if os.path.isfile(path) and not replace_other:
        before = read_record(path, [*division.train, *division.val])
        if before.val != division.val:
            raise ConfigError(
                f"{path}: is of another division of the images; --split {path} trains on that one,"
                " --overwrite replaces it with the run"
            )
    os.makedirs(folder, exist_ok=True)
    content = {"how": division.words, "train": division.train, "val": division.val}
    atomic_write(path, lambda f: f.write(json.dumps(content, indent=1).encode()))


def read_record(path: str, names: Iterable[str]) -> Division:
    """The division that an earlier run wrote, of the images that are there now.

    Raises:
        ConfigError: the file is none.
    """
    content = read_json(path)
    val = content.get("val") if isinstance(content, dict) else None
    if not isinstance(val, list) or not all(isinstance(name, str) for name in val):
        raise ConfigError(f"--split {path}: has no list val of file names")
    train = content.get("train")
    known = {name for name in [*val, *(train if isinstance(train, list) else ())] if is_text(name)}
    names, own = list(dict.fromkeys(names)), set(val)
    chosen = [name for name in names if name in own]
    rest = [name for name in names if name not in own]
    said = f"--split {path}: {len(rest)} of {len(names)} images are for training,"
    said += f" {len(chosen)} for validation"
    new, gone = len(set(names) - known), known - set(names)
    said += f"; {new} that it does not name are for training" if new else ""
    said += f"; {len(gone)} that it names are not here, as {short(min(gone))}" if gone else ""
    return Division(rest, chosen, said)
