"""Figures of the report: averages that end where the values do, and axes that can be read."""

import math
import random
import re
from itertools import pairwise

import pytest

from libra_umop.imbalance.report.compare import smooth

figures = pytest.importorskip(
    "libra_umop.imbalance.report.figures.base", reason="plotly is not installed (extra plots)"
)


@pytest.mark.parametrize("number", [1, 2, 7, 65, 400])
def test_an_average_of_a_straight_line_is_that_line_to_its_ends(number):
    """A padded window would bend the ends towards zero, a trailing one would lag."""
    values = [5.0 - 0.01 * i for i in range(number)]
    assert smooth(values) == pytest.approx(values, abs=1e-9)


def test_an_average_is_smoother_than_the_values_and_within_them():
    rng = random.Random(0)
    values = [rng.random() for _ in range(200)]
    average = smooth(values)

    def roughness(v):
        return sum((a - b) ** 2 for a, b in pairwise(v))

    assert roughness(average) < 0.2 * roughness(values)
    assert min(values) <= min(average) and max(average) <= max(values)
    assert average[0] == values[0] and average[-1] == values[-1]


@pytest.mark.parametrize(
    "low, high",
    [(3.1, 3.2), (3, 3), (1, 1), (2, 9), (0.004, 0.0041), (0.5, 70), (1e-5, 90), (99, 101)],
)
def test_a_logarithmic_axis_has_two_labelled_ticks_or_more_around_the_values(low, high):
    axis = figures.log_axis(low, high, " %")
    start, end = (10**v for v in axis["range"])
    seen = [v for v in axis["tickvals"] if start <= v <= end]
    assert 2 <= len(seen) <= 9 and start <= low and high <= end
    assert len(axis["ticktext"]) == len(axis["tickvals"]) == len(seen)
    assert [float(t.removesuffix(" %")) for t in axis["ticktext"]] == pytest.approx(seen)
    assert math.log10(end / start) <= math.log10(high / low) + 2.1


def light(colour):
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return 0.299 * red + 0.587 * green + 0.114 * blue


def test_the_confusion_matrix_is_dark_on_a_dark_page_with_the_most_in_the_lightest_shade():
    """The filter's inversion, in CSS' words: c becomes c (1 - 2 a) + 255 a; turning the hue by half
    keeps a grey."""
    from libra_umop.imbalance.report.figures.runs import SHADES
    from libra_umop.imbalance.report.page import TEMPLATES

    dark = (TEMPLATES / "page.css").read_text().split("prefers-color-scheme: dark")[1]
    rule = r"\.heatmaplayer \{\s+filter: invert\((.+?)\) hue-rotate\(180deg\);\s+\}"
    part = float(re.search(rule, dark)[1])
    seen = [255 * part + (1 - 2 * part) * light(colour) for _, colour in SHADES]
    assert seen == sorted(seen) and seen[0] < 50 and seen[-1] > 150


def test_every_colour_of_a_light_page_has_one_that_is_seen_on_a_dark_one():
    for before, after in figures.ON_DARK.items():
        if light(before) < 140:  # lines and texts
            assert light(after) > 120, before
    runs_and_levels = (*figures.RUN_COLOURS, *figures.LEVEL_COLOURS, figures.INK, figures.DARK)
    for colour in runs_and_levels:
        assert light(figures.ON_DARK.get(colour, colour)) > 90, colour
