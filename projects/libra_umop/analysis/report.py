"""From runs to the report: text, JSON and one HTML page."""

import json
from pathlib import Path
from typing import Any, Dict, List

from . import figures_imbalance as imbalance
from . import figures_runs as side_by_side
from .compare import ap_table
from .data import read_coco
from .detections import choose_images
from .findings import CAVEAT, find_all
from .images import FALSE_ALARM, HIT, image_rows
from .measure import measure_run
from .page import Page, ap_table_html, findings_section, header, picture_rows
from .records import PathLike, shorten
from .run import Run

PICTURE_TITLES = {
    "worst": "Worst images",
    "best": "Best images",
    "different": "Images on which the runs differ most",
}


class Report:
    """Everything about some runs.

    Args:
        runs: of :func:`libra_umop.analysis.run.load_runs`; the first is what others are compared with.
        min_score: detections from here on count in the confusion matrix and on images.
    """

    def __init__(self, runs: List[Run], *, min_score: float = 0.5):
        self.runs = runs
        self.measured = [measure_run(run, min_score=min_score) for run in runs]
        self.findings = find_all(runs, self.measured)
        self.min_score = min_score

    def text(self) -> str:
        """The findings as lines for a terminal."""
        lines = []
        for f in self.findings:
            kind = f"{f.imbalance}, {f.size}" if f.size else f.imbalance
            who = f"{f.run}: " if len(self.runs) > 1 and f.imbalance not in ("comparison", "data") else ""
            lines.append(f"[{kind}] {who}{f.text}")
            lines += [f"    try: {key} {value}" for key, value in f.switch]
        if not lines:
            lines = ["Nothing was measured in these runs; train with ANALYSIS.ENABLED True."]
        return "\n".join([*lines, "", CAVEAT])

    def to_dict(self) -> Dict[str, Any]:
        """What the JSON holds: ``findings``, ``runs`` (see
        :func:`libra_umop.analysis.measure.measure_run`), ``ap_table`` and ``caveat``.
        Boxes of single images are left out."""
        runs = []
        for run, m in zip(self.runs, self.measured):
            detections = m["detections"] and {
                **m["detections"],
                "images": {
                    str(k): {n: v for n, v in entry.items() if n not in ("truth", "found")}
                    for k, entry in m["detections"]["images"].items()
                },
            }
            data = m["data"] and {k: v for k, v in m["data"].items() if k != "sides"}
            runs.append({**m, "folder": str(run.folder), "detections": detections, "data": data})
        return shorten(
            {
                "findings": [f.to_dict() for f in self.findings],
                "ap_table": ap_table(self.runs)["rows"],
                "runs": runs,
                "caveat": CAVEAT,
            }
        )

    def html(self) -> str:
        """The page."""
        page = Page()
        page.parts.append(findings_section(self.measured, self.findings))
        self._sample(page)
        self._feature(page)
        self._objective(page)
        self._level(page)
        self._data(page)
        self._comparison(page)
        self._pictures(page)
        title = "Imbalance report: " + ", ".join(run.name for run in self.runs)
        return page.html(title, header(self.measured), self._footer())

    def write(self, output: PathLike) -> List[Path]:
        """Write the page to ``output``, and beside it the JSON and the text.

        Returns:
            the files' paths: page, JSON, text.
        """
        page = Path(output)
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(self.html(), encoding="utf-8")
        data, text = page.with_suffix(".json"), page.with_suffix(".txt")
        data.write_text(json.dumps(self.to_dict(), indent=1), encoding="utf-8")
        text.write_text(self.text() + "\n", encoding="utf-8")
        return [page, data, text]

    def _sample(self, page: Page) -> None:
        m = self.measured
        page.figure(
            imbalance.sample_histograms(m), "IoU of negatives",
            "Hard negatives: the tenth with the highest classification loss of those scored. Random"
            " picks: what uniform sampling would draw on average.", wide=len(m) > 1,
        )
        page.figure(
            imbalance.sample_shares(m), "Negatives that overlap an object",
            "Share above IoU 0.05.", wide=len(m) > 1,
        )
        page.section(
            "sample", "Sample",
            "Which negatives the ROI heads learn from. Random sampling mostly finds easy background;"
            " IoU-balanced sampling draws evenly over the overlap with objects.",
        )

    def _feature(self, page: Page) -> None:
        m = self.measured
        page.figure(
            imbalance.feature_shares(m), "What each level gives",
            "Projection of the rescaled level on the integrated feature; the parts sum to 100 %.",
        )
        page.figure(
            imbalance.feature_norms(m), "Norm of each level",
            "Root mean square of the activations. Point at a bar after BFP to see how much was added.",
        )
        page.section(
            "feature", "Feature",
            "How much each pyramid level contributes to the integrated feature and, with a balanced"
            " feature pyramid (BFP), gets from it. Without BFP: what it would contribute.",
        )

    def _objective(self, page: Page) -> None:
        m = self.measured
        page.figure(
            imbalance.gradient_shares(m), "Inliers' share",
            "Inliers: errors below the loss's transition point, or below 1 where it has none.",
        )
        page.figure(imbalance.loss_curves(m), "Loss and gradient", "At the runs' own parameters.")
        page.figure(
            imbalance.error_histogram(m), "Where the gradient comes from",
            "Cumulative over the error of a coordinate, in the units of the head's box coding. The"
            " further the coloured line lies below the grey one, the more outliers dominate.",
        )
        page.figure(imbalance.inliers_over_time(m), "Inliers' share of the gradient over training")
        page.section(
            "objective", "Objective",
            "Whether accurate or far-off boxes drive the box loss. The gradient is the run's own,"
            " as it reached the predicted box coordinates.",
        )

    def _level(self, page: Page) -> None:
        m = self.measured
        for head, name in (("dense", "anchors"), ("rpn", "RPN anchors")):
            note = " The RPN samples its anchors; these are the sampled positives." if head == "rpn" else ""
            page.figure(
                imbalance.level_positives(m, head), f"Positives of all {name}, per level and iteration",
                f"Box: quartiles over the measured iterations.{note}",
            )
            page.figure(
                imbalance.level_gradients(m, head), "Classification gradient by level",
                "Sum of absolute gradients at the classification logits.",
            )
        page.figure(
            imbalance.focus_over_time(m), "gamma and alpha of each level",
            "As UMOP sets them from the mean probability of the level's positives; for a run without"
            " UMOP, as it would. Dotted: the limits of gamma. At gamma 2 and delta 0.5 gamma moves only"
            " while the mean probability lies in [0.082, 0.223].", wide=True,
        )
        page.figure(
            imbalance.clipped_shares(m), "How often gamma is at a limit",
            "Share of the measured iterations in which the level has positives.",
        )
        page.section(
            "level", "Level",
            "Which pyramid levels have positives to learn from, and how the classification loss"
            " treats each.",
        )

    def _data(self, page: Page) -> None:
        shown: List[Dict[str, Any]] = []
        for m in self.measured:
            data = m["data"]
            if not data or not data["boxes"] or any(self._same_data(data, d) for d in shown):
                continue
            shown.append(data)
            who = f" ({m['name']})" if len(self.runs) > 1 else ""
            page.figure(side_by_side.box_sides(data), f"Size of the boxes{who}")
            page.figure(side_by_side.box_classes(data), f"Classes{who}")
            if data["levels"]:
                page.figure(
                    side_by_side.box_levels(data), f"Levels{who}",
                    "The level whose anchors are nearest in size, at training resolution.",
                )
        page.section("data", "Data", "The boxes of the training set; crowd regions are left out.")

    @staticmethod
    def _same_data(a: Dict[str, Any], b: Dict[str, Any]) -> bool:
        """Whether two runs saw the same boxes with the same levels."""
        return all(a[k] == b[k] for k in ("images", "boxes", "classes", "areas", "levels"))

    def _comparison(self, page: Page) -> None:
        names = [run.name for run in self.runs]
        table = ap_table(self.runs)
        if table["rows"]:
            note = "Differences to the first run." if len(names) > 1 else "The last evaluation."
            page.card(ap_table_html(table, names), "Box AP", note)
        page.figure(side_by_side.ap_by_size(self.runs), "AP by threshold and size")
        page.figure(side_by_side.ap_curves(self.runs), "AP over training")
        page.figure(
            side_by_side.losses(self.runs), "Losses over training",
            "Faint: as logged; strong: moving average. Losses of different kinds do not compare.",
            wide=True,
        )
        page.figure(
            side_by_side.precision_recall(self.measured), "Precision over recall",
            "At IoU 0.5, by faster-coco-eval.", wide=True,
        )
        page.figure(
            side_by_side.confusions(self.measured), "Confusion matrix",
            f"Detections with a score of {self.min_score:g} or more, matched at IoU 0.5 regardless of"
            " class, by faster-coco-eval. Numbers are boxes; the shade is the share of the row.",
            wide=True,
        )
        title = "Runs side by side" if len(names) > 1 else "Evaluation"
        page.section("runs", title, "The last evaluation of each run, and its way there.")

    def _pictures(self, page: Page) -> None:
        first = next((r for r, m in zip(self.runs, self.measured) if m["detections"]), None)
        if first is None or first.ground_truth is None or first.image_root is None:
            return
        pairs = [
            (r.name, m["detections"]["images"])
            for r, m in zip(self.runs, self.measured)
            if m["detections"] and r.ground_truth == first.ground_truth
        ]
        names, per_run = [p[0] for p in pairs], [p[1] for p in pairs]
        rows = image_rows(
            read_coco(first.ground_truth), first.image_root, names, per_run, choose_images(per_run)
        )
        all_names = [run.name for run in self.runs]
        for kind, title in PICTURE_TITLES.items():
            chosen = [row for row in rows if row["kind"] == kind]
            if chosen:
                shown = all_names if len(names) == len(all_names) else names
                page.card(picture_rows(chosen, shown), title, wide=True)
        page.section(
            "images", "Images",
            f"By F1 at score {self.min_score:g} and IoU 0.5. Point at a box for its class and score."
            f'</p><div class="key"><span><i style="border-color:{HIT}"></i>hit</span>'
            f'<span><i style="border-color:{FALSE_ALARM}"></i>false alarm</span>'
            '<span><i style="border:2px dashed #fff;outline:1px solid #6b7480"></i>missed object</span>'
            "</div><p>",
        )

    def _footer(self) -> str:
        """How it was measured, and what measuring cost."""
        from .. import __version__

        parts = [f"<p>Made by libra-umop {__version__}. "]
        for m in self.measured:
            c = m["collection"]
            if c and c["share_of_training"] is not None:
                parts.append(
                    f"{m['name']}: {c['steps']} of the steps {c['first']} to {c['last']} were measured,"
                    f" one in {c['period']}; that took {100 * c['share_of_training']:.2g} % of the training"
                    " time, as clocked on the host. "
                )
        parts.append(
            "Numbers are means or sums over the measured steps of the main process. Nothing on this page"
            " is fetched from a network.</p>"
        )
        return "".join(parts)
