"""The table of imbalances: how each is measured, put in words and shown.

One more is a file in ``measures``, one in ``findings``, one in ``report/figures``, and a row here:
the report's page, text and JSON, its order and its tiles follow. What has to be measured during
training also needs a probe (:mod:`..probes.probes`) and a section of :mod:`..records`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..findings import classes as find_classes
from ..findings import data as find_data
from ..findings import feature as find_feature
from ..findings import level as find_level
from ..findings import objective as find_objective
from ..findings import sample as find_sample
from ..findings.finding import Finding
from ..measures import classes, data, feature, level, objective, sample
from .figures import classes as show_classes
from .figures import data as show_data
from .figures import feature as show_feature
from .figures import level as show_level
from .figures import objective as show_objective
from .figures import sample as show_sample
from .figures.base import Measured
from .page import Card
from .run import Run


@dataclass(frozen=True)
class Imbalance:
    """One thing that can be out of balance.

    Attributes:
        name: of its measures in the JSON, of its findings, and of its section in links.
        title, intro: of its section on the page.
        measure: what is measured of a run, as JSON has it; None or empty if there is nothing.
        find: the findings about a run, from all that was measured of it: what ``measure`` gave is
            under ``name``.
        cards: what the section shows of all runs; a card without content is left out.
    """

    name: str
    title: str
    intro: str
    measure: Callable[[Run], Any]
    find: Callable[[dict[str, Any]], list[Finding]]
    cards: Callable[[Measured], list[Card]]


IMBALANCES = (
    Imbalance(
        "sample",
        "Sample",
        "Which negatives the ROI heads learn from. Random sampling mostly finds easy background;"
        " IoU-balanced sampling draws evenly over the overlap with objects.",
        sample.measure,
        find_sample.find,
        show_sample.cards,
    ),
    Imbalance(
        "feature",
        "Feature",
        "How much each pyramid level contributes to the integrated feature and, with a balanced"
        " feature pyramid (BFP), gets from it. Without BFP: what it would contribute.",
        feature.measure,
        find_feature.find,
        show_feature.cards,
    ),
    Imbalance(
        "objective",
        "Objective",
        "Whether accurate or far-off boxes drive the box loss. The gradient is the run's own,"
        " as it reached the predicted box coordinates.",
        objective.measure,
        find_objective.find,
        show_objective.cards,
    ),
    Imbalance(
        "level",
        "Level",
        "Which pyramid levels have positives to learn from, and how the classification loss"
        " treats each.",
        level.measure,
        find_level.find,
        show_level.cards,
    ),
    Imbalance(
        "class",
        "Class",
        "How many boxes and images each class has, what it gets of the classification loss and of"
        " its gradient, and how well it is found. Crowd regions are left out.",
        classes.measure,
        find_classes.find,
        show_classes.cards,
    ),
    Imbalance(
        "data",
        "Data",
        "The boxes of the training set; crowd regions are left out.",
        data.measure,
        find_data.find,
        show_data.cards,
    ),
)
