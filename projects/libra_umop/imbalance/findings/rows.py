"""The findings in words: which imbalance was measured, how large, and which switch addresses it.

Nothing is said that was not measured; what a switch would do to AP is never said, for it was not.
"""

from typing import Any

from ..report.compare import ap_table
from ..report.run import Run
from .find import find_feature, find_level, find_objective, find_sample
from .finding import SIZES, Finding, percent

CAVEAT = (
    "A finding says which imbalance is there, not that curing it raises AP. Off COCO a lever"
    " may not help: IoU-balanced sampling took someone's data from 37.0 to 36.4 AP, and progressive"
    " focus did little on light backbones. Switch on one lever at a time, and compare on your own"
    " data, with more than one seed."
)


def find_all(runs: list[Run], measured: list[dict[str, Any]]) -> list[Finding]:
    """All findings: the comparison, then large ones first, those with a switch before others.

    Args:
        runs: the runs.
        measured: :func:`libra_umop.imbalance.measures.measure.measure_run` of each.
    """
    findings: list[Finding] = []
    for m in measured:
        for find in (find_level, find_sample, find_objective, find_feature):
            findings += find(m)
    findings += find_data(measured)
    order = {size: i for i, size in enumerate(SIZES)}
    findings.sort(key=lambda f: (order.get(f.size, len(SIZES)), not f.switch))
    return find_comparison(runs) + findings


def find_data(measured: list[dict[str, Any]]) -> list[Finding]:
    """Class and size balance of the training set; once for runs on the same data."""
    findings: list[Finding] = []
    for m in measured:
        data = m["data"]
        if not data or not data["boxes"]:
            continue
        classes, boxes = data["classes"], data["boxes"]
        areas = ", ".join(f"{percent(n / boxes)} {name}" for name, n in data["areas"].items())
        text = (
            f"{boxes} boxes in {data['images']} training images: {areas} (COCO's limits, 32^2 and"
            " 96^2 px; a box on one of them counts as the larger)."
        )
        present = [c for c in classes if c["count"]]
        if len(present) > 1:
            text += (
                f" {present[0]['name']} has {percent(present[0]['count'] / boxes)} of them,"
                f" {present[-1]['name']} {percent(present[-1]['count'] / boxes)}."
            )
        if len(present) < len(classes):
            text += f" {len(classes) - len(present)} of {len(classes)} classes have no box."
        if not any(f.text == text for f in findings):
            findings.append(Finding("data", "", m["name"], text))
    return findings


def find_comparison(runs: list[Run]) -> list[Finding]:
    """AP of each run against the first one."""
    rows = {row["name"]: row for row in ap_table(runs)["rows"]}
    if len(runs) < 2 or "AP" not in rows or rows["AP"]["values"][0] is None:
        return []
    findings = []
    for i, run in enumerate(runs[1:], start=1):
        value, gap = rows["AP"]["values"][i], rows["AP"]["differences"][i]
        if value is None:
            continue
        parts = [
            f"{name} {rows[name]['differences'][i]:+.1f}"
            for name in ("AP50", "AP75", "APs", "APm", "APl")
            if name in rows and rows[name]["differences"][i] is not None
        ]
        text = (
            f"{run.name} has {value:.1f} AP, {runs[0].name} {rows['AP']['values'][0]:.1f}:"
            f" {gap:+.1f} ({', '.join(parts)}). One run each; another seed moves AP too, and on a"
            " small validation set easily by a point."
        )
        findings.append(
            Finding("comparison", "", run.name, text, [], {"AP": value, "difference": gap})
        )
    return findings
