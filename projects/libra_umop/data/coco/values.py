"""Judging values of any JSON type, which is what a dataset file may hold anywhere."""

import math
import re
from typing import Any

_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)


def as_int(value: Any) -> int | None:
    """An integer of at most 64 bits, or a float that is one, as int.

    None for all else, booleans too.
    """
    if not is_number(value) or (isinstance(value, float) and not value.is_integer()):
        return None
    return int(value) if abs(value) < 2**63 else None


def is_number(value: Any) -> bool:
    """An int or float, NaN and infinities included, but no boolean."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def as_float(value: Any) -> float:
    """A number as float; integers beyond its range, which JSON allows, become infinite."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def number_in_text(value: Any) -> Any:
    """The number that a text holds, "12.5" as 12.5, or ``value`` itself.

    Words ("nan", "1_000") are no numbers.
    """
    if not isinstance(value, str) or len(value) > 40 or not _NUMBER.fullmatch(value):
        return value
    return int(value) if value.strip().lstrip("+-").isdigit() else float(value)


def is_text(value: Any) -> bool:
    """A string that is not blank and can be written down (JSON allows half a surrogate pair)."""
    if not isinstance(value, str) or not value.strip():
        return False
    try:
        value.encode("utf-8")
        return True
    except UnicodeEncodeError:
        return False


def json_type(value: Any) -> str:
    """What a value is called in JSON, with its article."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "a boolean"}
    return "null" if value is None else names.get(type(value), "a number")
