"""What a config key is: its default, what it may be and what it means, declared once.

A key stands in ``config/keys/``, or with the component that brings it. From :data:`KEYS` come
``add_libra_umop_config``, the checks of a config and ``docs/config.md``.
"""

from typing import Any, NamedTuple

from .ranges import OneOf, Range

__all__ = ["DETECTRON2S", "KEYS", "Key", "declare", "declare_range"]

DETECTRON2S = object()  # the default of a key that Detectron2 declares


class Key(NamedTuple):
    """A config key.

    Attributes:
        default: its type is the key's type; ``{}`` is a group that takes any key.
        values: what it may be by itself; what keys mean for each other is in ``config/checks.py``.
        meaning: in a sentence or two, for people.
    """

    default: Any
    values: Range | OneOf
    meaning: str


KEYS: dict[str, Key] = {}  # dotted name -> key


def declare(group: str, **keys: Key) -> None:
    """Add ``keys`` below ``group``, as in ``declare("MODEL.BFP", REFINE_LEVEL=Key(...))``.

    Raises:
        ValueError: a key is declared already.
    """
    for name, key in keys.items():
        if f"{group}.{name}" in KEYS:
            raise ValueError(f"{group}.{name} is declared twice")
        KEYS[f"{group}.{name}"] = key


def declare_range(group: str, names: str, values: Range | OneOf) -> None:
    """Say what Detectron2's keys ``names`` below ``group`` may be; all else is Detectron2's."""
    declare(group, **{name: Key(DETECTRON2S, values, "") for name in names.split()})
