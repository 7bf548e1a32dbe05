"""From runs to the report: text, JSON and one HTML page."""

import json
from pathlib import Path
from typing import Any

from ..findings.rows import CAVEAT, find_all
from ..measures.measure import measure_run
from ..records import PathLike, shorten
from . import sections
from .compare import ap_table
from .page import Page, findings_section, header
from .run import Run


def require_same_classes(measured: list[dict[str, Any]]) -> None:
    """Raises ValueError where runs were evaluated on data of different classes."""
    known = [m for m in measured if m["detections"]]
    labels = [list(m["detections"]["confusion"]["labels"]) for m in known]
    for m, found in zip(known, labels, strict=True):
        if found != labels[0]:
            raise ValueError(
                f"{m['name']} was evaluated on other classes than {known[0]['name']}, so they do"
                " not compare; make a report of each"
            )


class Report:
    """Everything about some runs.

    Args:
        runs: of :func:`.run.load_runs`; the first is what others are compared with.
        min_score: detections from here on count in the confusion matrix and on images.
    """

    def __init__(self, runs: list[Run], *, min_score: float = 0.5):
        self.runs = runs
        self.measured = [measure_run(run, min_score=min_score) for run in runs]
        require_same_classes(self.measured)
        self.findings = find_all(runs, self.measured)
        self.min_score = min_score

    def text(self) -> str:
        """The findings as lines for a terminal."""
        lines = []
        for f in self.findings:
            kind = f"{f.imbalance}, {f.size}" if f.size else f.imbalance
            who = (
                f"{f.run}: "
                if len(self.runs) > 1 and f.imbalance not in ("comparison", "data")
                else ""
            )
            lines.append(f"[{kind}] {who}{f.text}")
            if f.switch:
                lines.append(f"    try {f.lever}: {' '.join(map(' '.join, f.switch))}")
        if not lines:
            lines = ["Nothing was measured in these runs; train with ANALYSIS.ENABLED True."]
        return "\n".join([*lines, "", CAVEAT])

    def to_dict(self) -> dict[str, Any]:
        """What the JSON holds: ``findings``, ``runs`` (see
        :func:`libra_umop.imbalance.measures.measure.measure_run`), ``ap_table`` and ``caveat``.
        Boxes of single images are left out.
        """
        runs = []
        for run, m in zip(self.runs, self.measured, strict=True):
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
        for section in (sections.sample, sections.feature, sections.objective, sections.level):
            section(page, self.measured)
        sections.data(page, self.measured)
        sections.comparison(page, self.runs, self.measured, self.min_score)
        sections.pictures(page, self.runs, self.measured, self.min_score)
        title = "Imbalance report: " + ", ".join(run.name for run in self.runs)
        return page.html(title, header(self.measured), self._footer())

    def write(self, output: PathLike) -> list[Path]:
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

    def _footer(self) -> str:
        """How it was measured, and what measuring cost."""
        from ... import __version__

        parts = [f"<p>Made by libra-umop {__version__}. "]
        for m in self.measured:
            c = m["collection"]
            if c and c["share_of_training"] is not None:
                parts.append(
                    f"{m['name']}: {c['steps']} of the steps {c['first']} to {c['last']} were"
                    f" measured, one in {c['period']}; that took"
                    f" {100 * c['share_of_training']:.2g} % of the training time,"
                    " as clocked on the host. "
                )
        parts.append(
            "Numbers are means or sums over the measured steps of the main process. Nothing on this"
            " page is fetched from a network.</p>"
        )
        return "".join(parts)
