"""What exporters write in another way than COCO's format, and what is meant by it."""

import json
from typing import Any

from ..defects import short
from .values import is_number, number_in_text

# Keys that are read as numbers.
_NUMBERS = {
    "category": ("id",),
    "image": ("id", "width", "height"),
    "annotation": ("id", "image_id", "category_id", "area", "iscrowd", "ignore"),
}
# Keys of an annotation that may be missing, and so may be null.
_OPTIONAL = ("iscrowd", "ignore", "area", "segmentation")

Repair = tuple[str, str]  # kind of defect and message


def read_as_meant(raw: dict[str, Any], what: str) -> tuple[dict[str, Any], list[Repair]]:
    """Replace what has one meaning only.

    Args:
        raw: one entry of a COCO document, which stays as it is.
        what: "category", "image" or "annotation".

    Returns:
        the entry in COCO's form, and the kind and message of each repair.
    """
    entry, repairs = dict(raw), []
    texts = {key: number_in_text(raw[key]) for key in _NUMBERS[what] if key in raw}
    if "bbox" in raw and what == "annotation":
        texts["bbox"] = _numbers_of_box(raw["bbox"])
    changed = [key for key, value in texts.items() if value is not raw[key]]
    if changed:
        entry.update({key: texts[key] for key in changed})
        got = ", ".join(f'"{key}" is {short(raw[key])}' for key in changed)
        repairs.append(("number_text", f"{got}; read as number, should be one"))
    if what == "annotation":
        repairs += _drop_nulls(entry) + _ignored_as_crowd(entry)
    return entry, repairs


def _numbers_of_box(bbox: Any) -> Any:
    """A box whose numbers, or which as a whole, is text; anything else as it is."""
    numbers = bbox
    if isinstance(bbox, str) and bbox.strip().startswith("[") and len(bbox) < 200:
        try:
            numbers = json.loads(bbox)
        except ValueError:
            return bbox
    if not isinstance(numbers, list):
        return bbox
    read = [number_in_text(v) for v in numbers]
    same = numbers is bbox and all(a is b for a, b in zip(read, bbox, strict=True))
    return bbox if same or not all(map(is_number, read)) else read


def _drop_nulls(entry: dict[str, Any]) -> list[Repair]:
    nulls = [key for key in _OPTIONAL if key in entry and entry[key] is None]
    for key in nulls:
        del entry[key]
    names = ", ".join(f'"{key}"' for key in nulls)
    return [("null_value", f"{names} null; read as missing")] if nulls else []


def _ignored_as_crowd(entry: dict[str, Any]) -> list[Repair]:
    """Make an entry with the key "ignore" a crowd region.

    In COCO's evaluation code and in other formats the key means what that is: a region that counts
    neither as found nor as missed.
    """
    ignore = entry.get("ignore")
    if not (isinstance(ignore, bool) or is_number(ignore)) or ignore not in (0, 1):
        return []
    del entry["ignore"]
    if not ignore or entry.get("iscrowd") in (1, True):
        return []
    entry["iscrowd"] = 1
    return [("ignore", '"ignore" is 1; read as "iscrowd": 1, should be that')]
