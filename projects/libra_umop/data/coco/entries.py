"""Going through the entries of a section of a COCO document."""

from collections.abc import Iterator
from typing import Any

from ..defects import REPAIRED, short
from .document import CocoData
from .repairs import read_as_meant
from .values import as_int, json_type


def objects(data: CocoData, section: list[Any], what: str) -> Iterator[tuple[int, dict]]:
    """``(index, entry)`` of the entries that are JSON objects, as they are meant.

    What was repaired in them, and the others, are recorded in ``data``.

    Args:
        data: where to record defects.
        section: a list of a COCO document.
        what: "category", "image" or "annotation".
    """
    for index, raw in enumerate(section):
        if not isinstance(raw, dict):
            got = f"{what} number {index} is {json_type(raw)}"
            data.add(f"{what}_type", f"{got}, should be an object")
            continue
        entry, repairs = read_as_meant(raw, what)
        field = {"category": "", "image": "image_id", "annotation": "annotation_id"}[what]
        where: dict[str, Any] = {field: as_int(entry.get("id"))} if field else {}
        if what == "annotation":
            where["image_id"] = as_int(entry.get("image_id"))
        for kind, message in repairs:
            data.add(kind, message, REPAIRED, **where)
        yield index, entry


def identifier(data: CocoData, entry: dict, what: str, index: int) -> int | None:
    """The ``id`` of an entry; None, and a defect in ``data``, if it has none."""
    number = as_int(entry.get("id"))
    if number is None:
        got = f"is {short(entry['id'])}" if "id" in entry else "is missing"
        image_id = as_int(entry.get("image_id")) if what == "annotation" else None
        message = f'{what} number {index}: "id" {got}, should be an integer'
        data.add(f"{what}_id", message, image_id=image_id)
    return number
