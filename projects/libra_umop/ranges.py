"""What values a config key may have, each by itself, with the words for people."""

import difflib
import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

__all__ = ["OneOf", "Range", "is_number", "registered"]


def is_number(value: Any) -> bool:
    """Whether ``value`` is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


class Range(NamedTuple):
    """Values that a key may have.

    Attributes:
        is_right: whether a value is among them; a TypeError means that it is not.
        words: the same for people, as in "KEY is VALUE, should be WORDS".
    """

    is_right: Callable[[Any], bool]
    words: str

    def refusal(self, value: Any) -> str:
        """``", should be WORDS"``; "" for a value that is right."""
        try:
            return "" if self.is_right(value) else f", should be {self.words}"
        except TypeError:
            return f", should be {self.words}"


class OneOf:
    """Names that a key may have: of registries and constants, as they are when they are asked."""

    def __init__(self, *sources: Iterable[str], kind: str = ""):
        self.sources, self.kind = sources, kind

    @property
    def names(self) -> list[str]:
        """All of them, sorted."""
        return sorted(name for source in self.sources for name in source)

    @property
    def words(self) -> str:
        """For a document, where the names that somebody may have added are not known."""
        return self.kind or f"one of {self._listed()}"

    def refusal(self, value: Any) -> str:
        """``", should be one of NAMES; did you mean NAME?"``; "" for a name that exists."""
        if value in self.names:
            return ""
        near = difflib.get_close_matches(str(value), self.names, n=1, cutoff=0.5)
        return f", should be one of {self._listed()}" + (
            f"; did you mean {near[0]}?" if near else ""
        )

    def _listed(self) -> str:
        return ", ".join(name or '""' for name in self.names)


def registered(registry: Any, *others: str) -> OneOf:
    """A name in a registry of fvcore, as Detectron2's, or one of ``others``."""
    return OneOf(
        registry._obj_map, others, kind=f"a name in Detectron2's {registry._name} registry"
    )


def _each(one: Range, words: str) -> Range:
    return Range(lambda values: all(one.is_right(v) for v in values), words)


BOOL = Range(lambda v: isinstance(v, bool), "True or False")
TEXT = Range(lambda v: isinstance(v, str), "a text")
POSITIVE = Range(lambda v: is_number(v) and v > 0, "a finite number > 0")
NOT_NEGATIVE = Range(lambda v: is_number(v) and v >= 0, "a finite number >= 0")
FRACTION = Range(lambda v: is_number(v) and 0 <= v <= 1, "in [0, 1]")
INSIDE = Range(lambda v: is_number(v) and 0 < v < 1, "in (0, 1)")
BELOW_1 = Range(lambda v: is_number(v) and 0 <= v < 1, "in [0, 1)")
PART = Range(lambda v: is_number(v) and 0 < v <= 1, "in (0, 1]")
AT_LEAST_1 = Range(lambda v: is_number(v) and v >= 1, "at least 1")
FOCAL_ALPHA = Range(lambda v: is_number(v) and v <= 1, "in [0, 1], or negative for none")
SIZES = _each(AT_LEAST_1, "sizes in pixels, each at least 1")
POSITIVES = _each(POSITIVE, "finite numbers, each > 0")
A_NUMBER = Range(is_number, "a finite number")
FINITE = _each(A_NUMBER, "finite numbers")
TEXTS = _each(TEXT, "names")
NAMES = Range(lambda v: len(v) > 0 and TEXTS.is_right(v), "one name or more")
INTEGERS = Range(lambda v: all(type(x) is int for x in v), "integers")
COUNTS = Range(
    lambda v: all(type(x) is int and x >= 0 for x in v), "whole numbers, each at least 0"
)
