"""Finding the picture that an annotation means, by whatever is left of its name.

Annotation tools write absolute paths of the machine that they ran on, addresses of their server, or
the bare name. What is still true of all of them is the end of the path.
"""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from urllib.parse import parse_qs, unquote, urlsplit

__all__ = ["Pictures", "is_picture", "local_name", "same_but_spelling", "subfolders"]

# What Pillow and its plugins read; data.images, which could tell, needs Detectron2.
SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".jp2", ".j2k", ".jxl", ".png", ".gif", ".webp")
    + (".bmp", ".dib", ".tif", ".tiff", ".ppm", ".pgm", ".pnm", ".tga", ".avif", ".heic", ".heif")
)


def is_picture(name: str) -> bool:
    """Whether a file's name ends like an image's."""
    return os.path.splitext(name)[1].lower() in SUFFIXES and not os.path.basename(name).startswith(
        "."
    )


def subfolders(root: str) -> Iterator[tuple[str, list[str]]]:
    """``(folder, sorted names of its files)`` of a folder and all below it, in a stable order.

    Links are followed, each folder once; hidden folders are left out.
    """
    seen = {os.path.realpath(root)}
    for folder, folders, files in os.walk(root, followlinks=True):
        own = {
            name: os.path.realpath(os.path.join(folder, name))
            for name in sorted(folders)
            if not name.startswith((".", "__"))
        }
        folders[:] = [name for name, real in own.items() if real not in seen]
        seen.update(own.values())
        yield folder, sorted(files)


def same_but_spelling(root: str, name: str) -> str | None:
    """The one path below ``root`` that is ``name`` but for letter case and composed accents."""
    path = root
    for part in _parts(name):
        listed = os.listdir(path) if os.path.isdir(path) else []
        alike = [n for n in listed if _normal(n).casefold() == part.casefold()]
        if len(alike) != 1 and part not in listed:
            return None
        path = os.path.join(path, part if part in listed else alike[0])
    return path


class Pictures:
    """The pictures below some folders."""

    def __init__(self, *folders: str):
        self.paths: list[str] = []
        self._by_name: dict[str, list[str]] = defaultdict(list)
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        for root in folders:
            for folder, files in subfolders(root):
                for name in filter(is_picture, files):
                    self._add(os.path.join(folder, name))

    def _add(self, path: str) -> None:
        self.paths.append(path)
        name = _normal(os.path.basename(path))
        self._by_name[name.casefold()].append(path)
        self._by_stem[os.path.splitext(name)[0]].append(path)

    def named(self, name: str) -> list[str]:
        """The pictures whose path ends like ``name``.

        That is the file's name at least, and its folders where they tell pictures apart. Letter
        case, which Windows ignores, counts only where there is a picture of just that name.
        """
        parts = _parts(name)
        found = self._by_name.get(parts[-1].casefold(), []) if parts else []
        exact = [path for path in found if _normal(os.path.basename(path)) == parts[-1]]
        return _nearest(exact or found, parts)

    def beside(self, path: str) -> list[str]:
        """The pictures that have the name of an annotation file but for the suffix.

        Of several those in its folder, else those whose folders are likest.
        """
        parts = _parts(path)
        stem = os.path.splitext(parts[-1])[0]
        same_folder = [
            p for p in self._by_stem.get(stem, []) if os.path.dirname(p) == os.path.dirname(path)
        ]
        return same_folder or _nearest(self._by_stem.get(stem, []), parts)


def local_name(address: str) -> str:
    """The path in an address: ``s3://bucket/a/b.jpg``, ``/data/local-files/?d=a/b.jpg``, ..."""
    try:
        parts = urlsplit(address)
        given = parse_qs(parts.query).get("d")
    except ValueError:
        return address
    return given[0] if given else unquote(parts.path or address)


def _nearest(paths: list[str], parts: list[str]) -> list[str]:
    """Those that have most folders in common with ``parts``, counted from the end."""
    if len(paths) < 2:
        return list(paths)

    def alike(path: str) -> int:
        own = _parts(path)[:-1][::-1]
        return sum(1 for a, b in zip(own, parts[:-1][::-1], strict=False) if a == b)

    most = max(map(alike, paths))
    return [path for path in paths if alike(path) == most]


def _parts(name: str) -> list[str]:
    return [part for part in _normal(name).replace("\\", "/").split("/") if part not in ("", ".")]


def _normal(name: str) -> str:
    return unicodedata.normalize("NFC", name)
