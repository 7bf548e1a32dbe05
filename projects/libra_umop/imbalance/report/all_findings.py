"""The findings in words: which imbalance was measured, how large, and which switch addresses it.

Nothing is said that was not measured; what a switch would do to AP is never said, for it was not.
"""

from collections.abc import Callable, Sequence
from typing import Any

from ..findings import comparison
from ..findings.finding import SIZES, Finding
from .run import Run

CAVEAT = (
    "A finding says which imbalance is there, not that curing it raises AP. Off COCO a lever"
    " may not help: in a study of our own on two small data sets Libra raised AP by 0.8 to 0.9,"
    " none of its parts alone was shown to, and UMOP as released hurt a RetinaNet; IoU-balanced"
    " sampling took someone's data from 37.0 to 36.4 AP, and progressive focus did little on light"
    " backbones. Switch on one lever at a time, and measure it on your own data, with more than one"
    " seed: libra-umop study --dataset DIR --config-file CONFIG --levers NAME."
)


def find_all(
    runs: list[Run],
    measured: list[dict[str, Any]],
    finders: Sequence[Callable[[dict[str, Any]], list[Finding]]],
) -> list[Finding]:
    """All findings: the comparison, then large ones first, those with a switch before others.

    Args:
        runs: the runs.
        measured: :func:`libra_umop.imbalance.measures.measure.measure_run` of each.
        finders: what gives the findings of one run, an imbalance each. What does not concern the
            run itself, and what was said of another on the same data, is said once.
    """
    findings: list[Finding] = []
    for m in measured:
        for found in (f for find in finders for f in find(m)):
            if found.of_run or not any(f.text == found.text for f in findings):
                findings.append(found)
    order = {size: i for i, size in enumerate(SIZES)}
    findings.sort(key=lambda f: (order.get(f.size, len(SIZES)), not f.switch, not f.of_run))
    return comparison.find(runs) + findings
