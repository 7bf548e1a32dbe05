"""Repeat-factor sampling (Gupta et al., LVIS, appendix B.2), with a threshold of the data."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

__all__ = ["chosen_threshold", "repeat_factor", "repeat_factors"]


def chosen_threshold(frequencies: Sequence[float]) -> float:
    """Repeat-factor sampling's threshold t for these data.

    The median over the classes of the part of the images that show them: images of the rarer half
    of the classes are repeated, of a class that is in f of the images sqrt(t / f) times; with
    classes in equally many images nothing is.

    Args:
        frequencies: of each class, in [0, 1]; those that are in no image do not count.

    Returns:
        t in (0, 1]; 0 without any class.
    """
    present = [f for f in frequencies if f > 0]
    return median(present) if present else 0.0


def repeat_factor(frequency: float, threshold: float) -> float:
    """How often images of a class are shown for once (Gupta et al., LVIS, appendix B.2)."""
    return max(1.0, math.sqrt(threshold / frequency)) if frequency > 0 else 1.0


def repeat_factors(
    classes_of_images: Sequence[Iterable[Any]], threshold: float | None = None
) -> tuple[float, list[float]]:
    """How often each image is shown for once: as often as the rarest of its classes asks for.

    Args:
        classes_of_images: of each image the classes in it.
        threshold: t; None for :func:`chosen_threshold`.

    Returns:
        t, and a factor >= 1 of each image.
    """
    sets = [set(classes) for classes in classes_of_images]
    frequencies = {c: n / len(sets) for c, n in Counter(c for s in sets for c in s).items()}
    if threshold is None:
        threshold = chosen_threshold(list(frequencies.values()))
    return threshold, [
        max((repeat_factor(frequencies[c], threshold) for c in s), default=1.0) for s in sets
    ]
