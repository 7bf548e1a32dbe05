"""Judging what stands in the JSON files of annotation tools, which may be anything."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from ....errors import DatasetError
from ...coco.document import read_json
from ...coco.values import as_float, is_number, number_in_text
from ...defects import short
from .builder import DocumentBuilder
from .pictures import Pictures

__all__ = ["BadValue", "json_lists", "numbers", "one_picture", "text", "whole_size"]


class BadValue(Exception):
    """What is wrong with a value, as the end of a sentence."""


def numbers(value: Any, keys: Sequence[str]) -> list[float]:
    """The numbers that an object has under ``keys``; BadValue says which it lacks."""
    if not isinstance(value, Mapping):
        raise BadValue(f"is {short(value)}, should have {', '.join(keys)}")
    found = [number_in_text(value.get(key)) for key in keys]
    for key, number in zip(keys, found, strict=True):
        if not is_number(number):
            raise BadValue(f"has {key} {short(number)}, should be a number")
    return [as_float(number) for number in found]


def text(value: Any, *keys: str) -> str:
    """The first of an object's ``keys`` that holds a text, "" for none."""
    found = (value.get(key) for key in keys) if isinstance(value, Mapping) else ()
    return next((v for v in found if isinstance(v, str) and v.strip()), "")


def whole_size(width: Any, height: Any) -> tuple[int, int] | None:
    """(width, height) if both are whole numbers above 0, else None."""
    both = [number_in_text(v) for v in (width, height)]
    whole = all(is_number(v) and v > 0 and float(v).is_integer() for v in both)
    return (int(both[0]), int(both[1])) if whole else None


def one_picture(
    builder: DocumentBuilder,
    pictures: Pictures,
    name: str,
    place: str,
    found: list[str] | None = None,
) -> str | None:
    """The one picture of that name; None, and a defect, if there is none or are several."""
    found = pictures.named(name) if found is None else found
    if len(found) == 1:
        return found[0]
    said = f"there is no picture {short(name)}"
    if found:
        said = f"{short(name)} may be {' or '.join(map(builder.place, found[:3]))}"
    builder.defect("image_missing", said, place)
    return None


def json_lists(path: str) -> list[tuple[str, list[Any]]]:
    """The JSON files in a folder, or the one file, that hold a list, with it."""
    files = [path]
    if os.path.isdir(path):
        files = [os.path.join(path, name) for name in sorted(os.listdir(path))]
    found = []
    for file in files:
        if file.lower().endswith(".json") and os.path.isfile(file) and _begins(file, b"["):
            try:
                content = read_json(file)
            except DatasetError:
                continue
            found.append((file, content))
    return found


def _begins(file: str, character: bytes) -> bool:
    with open(file, "rb") as f:
        return f.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == character
