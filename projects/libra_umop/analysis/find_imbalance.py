"""The findings about the four imbalances of one run, from what ``measure_run`` gave for it."""

from typing import Any, Dict, List, Optional

from .finding import Finding, graded, percent


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
        f"{percent(share['hard'])} of the hardest negatives{among} overlap an object by more than"
        f" IoU 0.05, against {percent(share['random'])} of random picks"
        " (the paper, on COCO: 60 % and 30 %)."
    )
    is_random = sampler in (None, "random")
    size = graded(share["hard"] - share["random" if is_random else "picked"], 0.2, 0.1)
    switch: List[List[str]] = []
    if not is_random:
        kind = {"iou_balanced": "IoU-balanced sampling", "ohem": "OHEM"}.get(sampler, sampler)
        text += f" This run's {kind} picks {percent(share['picked'])}."
    if share["hard"] - share["random"] < 0.1:
        text += " Random picks are no easier than the hard negatives here: little to balance."
    elif is_random:
        switch = [["MODEL.ROI_HEADS.NAME", "LibraROIHeads"]]
        switch += [["MODEL.ROI_HEADS.NEGATIVE_SAMPLER", "iou_balanced"]]
        text += " IoU-balanced sampling draws more of those that overlap."
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
            f"{percent(inliers)} of the {_title(head)} box coordinates are inliers ({limit}); they"
            f" give {percent(gradient)} of the box gradient under {_loss_title(entry['loss'])}."
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
            f"Level {levels[low].upper()} has {percent(rates[low])} positives among its {what}"
            f" against {percent(rates[top])} at {levels[top].upper()} ({times})."
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
