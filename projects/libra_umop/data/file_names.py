"""From the ``file_name`` of an image to the file that is meant.

Annotations are often written on another system than they are read on: with backslashes, with %20 or
+ for a blank, in another letter case, or with accents composed otherwise (Unicode's NFC and NFD).
"""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import unquote

from .coco.document import CocoData
from .coco.values import is_text
from .defects import REPAIRED, short

# Images that are looked for to find the folder that all of them are in.
NUM_IMAGES_TRIED = 100


def file_name_problem(file_name: Any) -> str | None:
    """What is wrong with an image's ``file_name``, or None.

    Only names that stay below the image folder are accepted; a link that lies in the folder is the
    user's own and is followed.
    """
    if not isinstance(file_name, str) or not file_name:
        return f'"file_name" is {short(file_name)}, should be a path below the image folder'
    if "\0" in file_name or not is_text(file_name):
        return f'"file_name" {short(file_name)} cannot be the name of a file'
    for name in (file_name, unquote(file_name)):
        parts = name.replace("\\", "/").split("/")
        is_absolute = parts[0] == "" or parts[0].endswith(":")  # also C: and http:
        if is_absolute or ".." in parts or "\0" in name:
            return (
                f'"file_name" {short(file_name)} leaves the image folder;'
                " should be a path below it, without .."
            )
    return None


def find_files(data: CocoData, image_roots: Sequence[str]) -> None:
    """Set ``data.image_root`` and the ``file_name`` of each image to what is there, in place.

    The folder is the one that has most of the first images, the first one if none does.

    A name that no file has, but exactly one file in other spelling, is that file's: a defect of
    kind "file_name_spelling". Two such files are a defect that training refuses. A name that no
    file has in any spelling stays.
    """
    folders = [ImageFolder(root) for root in image_roots]
    tried = [image["file_name"] for image in data.images[:NUM_IMAGES_TRIED]]
    hits = [sum(map(folder.has, tried)) for folder in folders]
    if not any(hits):
        hits = [sum(bool(folder.spelt_otherwise(name)) for name in tried) for folder in folders]
    folder = folders[hits.index(max(hits))]
    data.image_root = folder.root
    for image in data.images:
        name = image["file_name"]
        if folder.has(name):
            continue
        found = folder.spelt_otherwise(name)
        said = f"there is no image file {short(name)}, but {', '.join(map(short, found[:3]))}"
        if len(found) == 1:
            image["file_name"] = found[0]
            said += ", which is taken"
            data.add("file_name_spelling", said, REPAIRED, image_id=image["id"])
        elif found:
            data.add("file_name_ambiguous", f"{said}; should be one of them", image_id=image["id"])


class ImageFolder:
    """The files below a folder. Each folder in it is listed when it is asked for, and once."""

    def __init__(self, root: str):
        self.root = root
        self._listed: dict[str, set[str]] = {}
        self._alike: dict[tuple[str, Callable], dict[str, list[tuple[str, list[str]]]]] = {}

    def has(self, name: str) -> bool:
        """Whether the folder has just this file."""
        folder, base = os.path.split(name)
        return base in self._list(folder) or os.path.isfile(os.path.join(self.root, name))

    def spelt_otherwise(self, name: str) -> list[str]:
        """The files whose names differ from ``name`` in their spelling; [] if there is none.

        Only those of the nearest kind of spelling.
        """
        for alike in (_same_characters, _same_but_suffix_case, _same_but_case, _same_but_plus):
            found = self._find("", _parts(alike(name)), alike)
            if found:
                return sorted(found)
        return []

    def _find(self, folder: str, parts: list[str], alike: Callable[[str], str]) -> list[str]:
        """The files below ``folder`` whose path is like ``parts``."""
        found = []
        for entry, own in self._entries(folder, alike).get(parts[0] if parts else "", ()):
            path = os.path.join(folder, entry)
            if parts == own and os.path.isfile(os.path.join(self.root, path)):
                found.append(path)
            elif len(parts) > len(own) and parts[: len(own)] == own:
                found += self._find(path, parts[len(own) :], alike)
        return found

    def _entries(self, folder: str, alike: Callable) -> dict[str, list[tuple[str, list[str]]]]:
        """What is in ``folder``, each with the parts of its name, by the first of these.

        There are several if it was unpacked with backslashes in its name.
        """
        if (folder, alike) not in self._alike:
            by_first = self._alike[folder, alike] = defaultdict(list)
            for entry in self._list(folder):
                parts = _parts(alike(entry))
                by_first[parts[0] if parts else ""].append((entry, parts))
        return self._alike[folder, alike]

    def _list(self, folder: str) -> set[str]:
        if folder not in self._listed:
            try:
                self._listed[folder] = set(os.listdir(os.path.join(self.root, folder)))
            except OSError:
                self._listed[folder] = set()
        return self._listed[folder]


def _parts(name: str) -> list[str]:
    return [part for part in name.split("/") if part not in ("", ".")]


def _same_characters(name: str) -> str:
    return unicodedata.normalize("NFC", unquote(name)).replace("\\", "/").strip()


def _same_but_suffix_case(name: str) -> str:
    stem, suffix = os.path.splitext(_same_characters(name))
    return stem + suffix.lower()


def _same_but_case(name: str) -> str:
    return unicodedata.normalize("NFC", _same_characters(name).casefold())


def _same_but_plus(name: str) -> str:
    """As forms on the web encode a blank. Last, as a + is also one of a name's own characters."""
    return _same_but_case(name).replace("+", " ")
