"""The sections of the page, one after the other; each is left out if nothing of it was measured."""

from collections.abc import Sequence
from typing import Any

from ..measures.data import read_coco
from ..measures.detections import choose_images
from .compare import ap_table
from .figures import data as figures_data
from .figures import level as figures_level
from .figures import objective as figures_objective
from .figures import runs as figures_runs
from .figures import sample as figures_sample
from .images import FALSE_ALARM, HIT, image_rows
from .page import Page, ap_table_html, picture_rows
from .run import Run

PICTURE_TITLES = {
    "worst": "Worst images",
    "best": "Best images",
    "different": "Images on which the runs differ most",
}
Measured = list[dict[str, Any]]


def sample(page: Page, m: Measured) -> None:
    """Which negatives the ROI heads learn from."""
    wide = sum(x["sample"] is not None for x in m) > 1
    page.figure(
        figures_sample.sample_histograms(m),
        "IoU of negatives",
        "Hard negatives: the tenth with the highest classification loss of those scored. Random"
        " picks: what uniform sampling would draw on average.",
        wide=wide,
    )
    page.figure(
        figures_sample.sample_shares(m),
        "Negatives that overlap an object",
        "Share above IoU 0.05.",
        wide=wide,
    )
    page.section(
        "sample",
        "Sample",
        "Which negatives the ROI heads learn from. Random sampling mostly finds easy background;"
        " IoU-balanced sampling draws evenly over the overlap with objects.",
    )


def feature(page: Page, m: Measured) -> None:
    """What each pyramid level gives and gets."""
    page.figure(
        figures_sample.feature_shares(m),
        "What each level gives",
        "Projection of the rescaled level on the integrated feature; the parts sum to 100 %.",
    )
    page.figure(
        figures_sample.feature_norms(m),
        "Norm of each level",
        "Root mean square of the activations. Point at a bar after BFP to see how much was added.",
    )
    page.section(
        "feature",
        "Feature",
        "How much each pyramid level contributes to the integrated feature and, with a balanced"
        " feature pyramid (BFP), gets from it. Without BFP: what it would contribute.",
    )


def objective(page: Page, m: Measured) -> None:
    """Which errors drive the box loss."""
    page.figure(
        figures_objective.gradient_shares(m),
        "Inliers' share",
        "Inliers: errors below the loss's transition point, or below 1 where it has none.",
    )
    page.figure(
        figures_objective.loss_curves(m), "Loss and gradient", "At the runs' own parameters."
    )
    page.figure(
        figures_objective.error_histogram(m),
        "Where the gradient comes from",
        "Cumulative over the error of a coordinate, in the units of the head's box coding. The"
        " further the coloured line lies below the grey one, the more outliers dominate.",
    )
    page.figure(
        figures_objective.inliers_over_time(m), "Inliers' share of the gradient over training"
    )
    page.section(
        "objective",
        "Objective",
        "Whether accurate or far-off boxes drive the box loss. The gradient is the run's own,"
        " as it reached the predicted box coordinates.",
    )


def level(page: Page, m: Measured) -> None:
    """Which levels have positives, and how each is treated."""
    for head, name in (("dense", "anchors"), ("rpn", "RPN anchors")):
        note = (
            " The RPN samples its anchors; these are the sampled positives."
            if head == "rpn"
            else ""
        )
        page.figure(
            figures_level.level_positives(m, head),
            f"Positives of all {name}, per level and iteration",
            f"Box: quartiles over the measured iterations.{note}",
        )
        page.figure(
            figures_level.level_gradients(m, head),
            "Classification gradient by level",
            "Sum of absolute gradients at the classification logits.",
        )
    page.figure(
        figures_level.focus_over_time(m),
        "gamma and alpha of each level",
        "As UMOP sets them from the mean probability of the level's positives; for a run without"
        " UMOP, as it would. Dotted: the limits of gamma. At gamma 2 and delta 0.5 gamma moves only"
        " while the mean probability lies in [0.082, 0.223].",
        wide=True,
    )
    page.figure(
        figures_level.clipped_shares(m),
        "How often gamma is at a limit",
        "Share of the measured iterations in which the level has positives.",
    )
    page.section(
        "level",
        "Level",
        "Which pyramid levels have positives to learn from, and how the classification loss"
        " treats each.",
    )


def data(page: Page, measured: Measured) -> None:
    """The training set, once for runs that saw the same."""
    shown: list[dict[str, Any]] = []
    for m in measured:
        entry = m["data"]
        if not entry or not entry["boxes"] or any(_same_data(entry, d) for d in shown):
            continue
        shown.append(entry)
        who = f" ({m['name']})" if len(measured) > 1 else ""
        page.figure(figures_data.box_sides(entry), f"Size of the boxes{who}")
        page.figure(figures_data.box_classes(entry), f"Classes{who}")
        if entry["levels"]:
            page.figure(
                figures_data.box_levels(entry),
                f"Levels{who}",
                "The level whose anchors are nearest in size, at training resolution.",
            )
    page.section("data", "Data", "The boxes of the training set; crowd regions are left out.")


def _same_data(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Whether two runs saw the same boxes with the same levels."""
    return all(a[k] == b[k] for k in ("images", "boxes", "classes", "areas", "levels"))


def comparison(page: Page, runs: Sequence[Run], measured: Measured, min_score: float) -> None:
    """The last evaluations, and the way there."""
    names = [run.name for run in runs]
    table = ap_table(list(runs))
    if table["rows"]:
        note = "Differences to the first run." if len(names) > 1 else "The last evaluation."
        page.card(ap_table_html(table, names), "Box AP", note)
    page.figure(figures_runs.ap_by_size(list(runs)), "AP by threshold and size")
    page.figure(figures_runs.ap_curves(list(runs)), "AP over training")
    page.figure(
        figures_runs.losses(list(runs)),
        "Losses over training",
        "Faint: as logged; strong: moving average. Losses of different kinds do not compare.",
        wide=True,
    )
    page.figure(
        figures_runs.precision_recall(measured),
        "Precision over recall",
        "At IoU 0.5, by faster-coco-eval.",
        wide=True,
    )
    page.figure(
        figures_runs.confusions(measured),
        "Confusion matrix",
        f"Detections with a score of {min_score:g} or more, matched at IoU 0.5 regardless of"
        " class, by faster-coco-eval. Numbers are boxes; the shade is the share of the row.",
        wide=True,
    )
    title = "Runs side by side" if len(names) > 1 else "Evaluation"
    page.section("runs", title, "The last evaluation of each run, and its way there.")


def pictures(page: Page, runs: Sequence[Run], measured: Measured, min_score: float) -> None:
    """The worst and best images, and those on which runs differ."""
    first = next((r for r, m in zip(runs, measured, strict=True) if m["detections"]), None)
    if first is None or first.ground_truth is None:
        return
    pairs = [
        (r.name, m["detections"]["images"])
        for r, m in zip(runs, measured, strict=True)
        if m["detections"] and r.ground_truth == first.ground_truth
    ]
    names, per_run = [p[0] for p in pairs], [p[1] for p in pairs]
    truth = read_coco(first.ground_truth)
    rows = image_rows(truth, names, per_run, choose_images(per_run))
    all_names = [run.name for run in runs]
    for kind, title in PICTURE_TITLES.items():
        chosen = [row for row in rows if row["kind"] == kind]
        if chosen:
            shown = all_names if len(names) == len(all_names) else names
            page.card(picture_rows(chosen, shown), title, wide=True)
    page.section(
        "images",
        "Images",
        f"By F1 at score {min_score:g} and IoU 0.5. Point at a box for its class and"
        " score. False alarms that look right point to objects that nobody has labelled."
        f'</p><div class="key"><span><i style="border-color:{HIT}"></i>hit</span>'
        f'<span><i style="border-color:{FALSE_ALARM}"></i>false alarm</span>'
        '<span><i style="border:2px dashed #fff;outline:1px solid #6b7480"></i>missed object</span>'
        "</div><p>",
    )
