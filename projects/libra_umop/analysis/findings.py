"""The findings in words: which imbalance was measured, how large, and which switch addresses it.

Nothing is said that was not measured; what a switch would do to AP is never said, for it was not.
"""

from dataclasses import asdict, dataclass, field
from typing import Any, Dict, List, Optional

from .compare import ap_table
from .run import Run

SIZES = ("large", "moderate", "small")
CAVEAT = (
    "A finding says which imbalance is there, not that curing it raises AP. Off COCO a lever may not"
    " help: IoU-balanced sampling took someone's data from 37.0 to 36.4 AP, and progressive focus"
    " did little on light backbones. Switch on one lever at a time, and compare on your own data,"
    " with more than one seed."
)


@dataclass
class Finding:
    """One sentence or two about one run.

    Attributes:
        imbalance: "sample", "feature", "objective", "level", "data" or "comparison".
        size: "large", "moderate", "small", or "" where size has no meaning.
        run: its name.
        text: the sentence, with the numbers.
        switch: config keys that address it, ("KEY", "value"); empty if none does.
        numbers: the numbers of the sentence, unrounded.
    """

    imbalance: str
    size: str
    run: str
    text: str
    switch: List[List[str]] = field(default_factory=list)
    numbers: Dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> Dict[str, Any]:
        """As the JSON has it."""
        return asdict(self)


def percent(value: Optional[float]) -> str:
    """A share as people write it: 62 %, 1.4 %, 0.02 %."""
    if value is None or value != value:
        return "?"
    value *= 100
    if value >= 9.95 or value == 0:
        return f"{value:.0f} %"
    return f"{value:.1f} %" if value >= 0.095 else f"{value:.2g} %"


def graded(value: float, large: float, moderate: float) -> str:
    """One of :data:`SIZES`."""
    return "large" if value >= large else "moderate" if value >= moderate else "small"


def find_all(runs: List[Run], measured: List[Dict[str, Any]]) -> List[Finding]:
    """All findings, large ones first within the comparison's lead.

    Args:
        runs: the runs.
        measured: :func:`libra_umop.analysis.measure.measure_run` of each.
    """
    findings: List[Finding] = []
    for m in measured:
        for find in (find_level, find_sample, find_objective, find_feature):
            findings += find(m)
    findings += find_data(measured)
    order = {size: i for i, size in enumerate(SIZES)}
    findings.sort(key=lambda f: order.get(f.size, len(SIZES)))
    return find_comparison(runs) + findings


def find_sample(m: Dict[str, Any]) -> List[Finding]:
    """Hard negatives against those the head learns from."""
    sample = m["sample"]
    if not sample:
        return []
    share = {k: sample[k]["share_above"] for k in ("random", "picked", "hard")}
    if any(v != v for v in share.values()):
        return []
    sampler = m["settings"]["sampler"]
    among = "" if sample["hard_among"] == "all" else " (among those sampled)"
    text = (
        f"{percent(share['hard'])} of the hardest negatives{among} overlap an object by more than IoU"
        f" 0.05, but {percent(share['random'])} of random picks do (the paper, on COCO: 60 % and 30 %)."
    )
    size = graded(share["hard"] - share["random"], 0.2, 0.1)
    switch: List[List[str]] = []
    if sampler in (None, "random"):
        if size == "small":
            text += " Random picks are near the hard negatives here; there is little to balance."
        else:
            switch = [["MODEL.ROI_HEADS.NAME", "LibraROIHeads"]]
            switch += [["MODEL.ROI_HEADS.NEGATIVE_SAMPLER", "iou_balanced"]]
            text += " IoU-balanced sampling draws more of those that overlap."
    else:
        gap = abs(share["hard"] - share["picked"])
        size = graded(gap, 0.2, 0.1)
        kind = {"iou_balanced": "IoU-balanced sampling", "ohem": "OHEM"}.get(sampler, sampler)
        text += f" This run's {kind} picks {percent(share['picked'])}."
    return [Finding("sample", size, m["name"], text, switch, share)]


def find_objective(m: Dict[str, Any]) -> List[Finding]:
    """Inliers' share of the box gradient, of the head that says the boxes."""
    findings = []
    for head, entry in m["objective"].items():
        if head == "rpn" and len(m["objective"]) > 1:
            continue  # its boxes are refined later; the figure shows it
        kind = entry["loss"].get("type")
        inliers, gradient = entry["inliers"], entry["gradient_inliers"]
        limit = f"|x| < {entry['threshold']:g}"
        text = (
            f"{percent(inliers)} of the {_title(head)} box coordinates are inliers ({limit}); they give"
            f" {percent(gradient)} of the box gradient under {_loss_title(entry['loss'])}."
        )
        numbers = {"inliers": inliers, "gradient_inliers": gradient}
        switch: List[List[str]] = []
        size = graded(inliers - gradient, 0.3, 0.15)
        if kind == "smooth_l1" and (entry["loss"].get("beta") or 0) > 0:
            text += " The paper, on COCO: 30 %."
            if size != "small":
                numbers["balanced_l1"] = entry["balanced_l1"]
                text += (
                    f" With balanced L1 (alpha 0.5, gamma 1.5) the same errors would give them"
                    f" {percent(entry['balanced_l1'])}."
                )
                switch = _box_loss_switch(head)
        findings.append(Finding("objective", size, m["name"], text, switch, numbers))
    return findings


def _box_loss_switch(head: str) -> List[List[str]]:
    """The key that turns balanced L1 on for a head."""
    group = {"dense": "RETINANET", "rpn": "RPN"}.get(head, "ROI_BOX_HEAD")
    return [[f"MODEL.{group}.BBOX_REG_LOSS_TYPE", "balanced_l1"]]


def find_feature(m: Dict[str, Any]) -> List[Finding]:
    """The levels' parts in the integrated feature."""
    feature = m["feature"]
    if not feature or not feature["share"]:
        return []
    levels, share = feature["levels"], feature["share"]
    top, low = share.index(max(share)), share.index(min(share))
    text = (
        f"Of the feature integrated over the {len(levels)} levels, {levels[top].upper()} makes"
        f" {percent(share[top])} and {levels[low].upper()} {percent(max(share[low], 0.0))};"
        f" equal parts would be {percent(1 / len(levels))}."
    )
    switch: List[List[str]] = []
    size = graded(feature["ratio"], 4.0, 2.0)
    if feature["gain"]:
        gain = feature["gain"]
        most = gain.index(max(gain))
        text += (
            f" BFP adds {percent(min(gain))} to {percent(max(gain))} of a level's own norm,"
            f" most to {levels[most].upper()}."
        )
    elif size != "small":
        switch = [["MODEL.BACKBONE.NAME", "build_bfp_backbone"]]
        switch += [["MODEL.BFP.PYRAMID", m["settings"]["backbone"] or "build_resnet_fpn_backbone"]]
        text += " BFP gives every level what all of them know."
    return [Finding("feature", size, m["name"], text, switch, {"levels": levels, "share": share})]


def find_level(m: Dict[str, Any]) -> List[Finding]:
    """Positives per level, and how often the focus is clipped."""
    findings = []
    for head, entry in m["level"].items():
        rates, levels = entry["rate"], entry["levels"]
        if len(levels) < 2 or not max(rates):
            continue
        top, low = rates.index(max(rates)), rates.index(min(rates))
        ratio = rates[top] / rates[low] if rates[low] else float("inf")
        times = f"{ratio:.0f} times fewer" if rates[low] else "none at all"
        what = "anchors" if head == "dense" else "RPN anchors (sampled)"
        text = (
            f"Level {levels[low].upper()} has {percent(rates[low])} positives among its {what} against"
            f" {percent(rates[top])} at {levels[top].upper()} ({times})."
        )
        numbers = {"levels": levels, "rate": rates, "clipped": entry["clipped_all"]}
        size = graded(ratio, 10.0, 3.0)
        switch: List[List[str]] = []
        progressive = (m["settings"]["focus"] or {}).get("progressive")
        if head == "rpn":
            text += " The focus of UMOP is for dense detectors; an R-CNN has no such switch."
        elif progressive:
            text += f" UMOP gives each level its own focus; {_clipping(entry)}"
        elif size != "small":
            switch = [["MODEL.META_ARCHITECTURE", f"UMOP{_base(m['detector'])}"]]
            text += f" UMOP would give each level its own focus; {_clipping(entry)}"
        findings.append(Finding("level", size, m["name"], text, switch, numbers))
    return findings


def _clipping(entry: Dict[str, Any]) -> str:
    """How often gamma_l is at a limit, in words."""
    if entry["clipped_all"] is None:
        return "no level had a positive."
    gamma, delta = entry["focus"]["gamma"], entry["focus"]["delta"]
    return (
        f"its gamma is at a limit ({gamma - delta:g} or {gamma + delta:g}) in"
        f" {percent(entry['clipped_all'])} of the measurements, so it does not move there."
    )


def find_data(measured: List[Dict[str, Any]]) -> List[Finding]:
    """Class and size balance of the training set; once for runs on the same data."""
    findings: List[Finding] = []
    for m in measured:
        data = m["data"]
        if not data or not data["boxes"]:
            continue
        classes, boxes = data["classes"], data["boxes"]
        areas = ", ".join(f"{percent(n / boxes)} {name}" for name, n in data["areas"].items())
        text = f"{boxes} boxes in {data['images']} training images: {areas} (COCO's limits)."
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


def find_comparison(runs: List[Run]) -> List[Finding]:
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
            f" {gap:+.1f} ({', '.join(parts)}). One run each; another seed moves AP too, and on a small"
            " validation set easily by a point."
        )
        findings.append(Finding("comparison", "", run.name, text, [], {"AP": value, "difference": gap}))
    return findings


def _title(head: str) -> str:
    """A head as people call it."""
    if head.startswith("roi_heads_stage"):
        return f"cascade stage {int(head[len('roi_heads_stage'):]) + 1}'s"
    return {"roi_heads": "ROI head's", "rpn": "RPN's", "dense": "dense head's"}.get(head, head)


def _loss_title(loss: Dict[str, Any]) -> str:
    """A box loss as people call it."""
    kind, beta = loss.get("type"), loss.get("beta") or 0.0
    if kind == "smooth_l1":
        return f"smooth L1 (beta {beta:.2g})" if beta > 0 else "L1"
    if kind == "balanced_l1":
        return f"balanced L1 (alpha {loss['alpha']:g}, gamma {loss['gamma']:g}, beta {beta:.2g})"
    return {"giou": "GIoU", "diou": "DIoU", "ciou": "CIoU"}.get(kind or "", "the run's loss")


def _base(detector: Optional[str]) -> str:
    """The family of a dense detector: RetinaNet, ATSS or FCOS."""
    return next((b for b in ("ATSS", "FCOS", "RetinaNet") if b in (detector or "")), "RetinaNet")
