"""From runs to the report: text, JSON and one HTML page."""

import json
from pathlib import Path
from typing import Any

from ...levers import LEVERS
from ..findings.finding import Finding
from ..measures.measure import measure_run
from ..records import PathLike, shorten
from .all_findings import CAVEAT, find_all
from .compare import ap_table
from .imbalances import IMBALANCES
from .page import TEMPLATES, render
from .run import Run
from .sections import all_sections


def describe(m: dict[str, Any]) -> str:
    """A run in a few words: detector, evaluation, how often it was measured."""
    # What stands behind a comma is the lever's range, of no use beside commas between words.
    on = " + ".join(LEVERS[name].title.partition(",")[0] for name in m["levers"])
    words = [f"{m['detector'] or ''}{' with ' if on else ''}{on}"]
    if "AP" in m["AP"]:
        words.append(f"{m['AP']['AP']:.1f} AP")
    if m["collection"]:
        words.append(f"{m['collection']['steps']} steps measured")
    return ", ".join(w for w in words if w)


def require_same_classes(measured: list[dict[str, Any]]) -> None:
    """See to it that the runs were evaluated on data of the same classes.

    Raises:
        ValueError: they were not.
    """
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
        measures = {imbalance.name: imbalance.measure for imbalance in IMBALANCES}
        self.measured = [measure_run(run, measures, min_score=min_score) for run in runs]
        require_same_classes(self.measured)
        self.findings = find_all(runs, self.measured, [i.find for i in IMBALANCES])
        self.min_score = min_score

    def text(self) -> str:
        """The findings as lines for a terminal."""
        lines = []
        for f in self.findings:
            kind = f"{f.imbalance}, {f.size}" if f.size else f.imbalance
            who = f"{f.run}: " if len(self.runs) > 1 and f.of_run else ""
            lines.append(f"[{kind}] {who}{f.text}")
            if f.switch:
                lines.append(f"    try {f.lever}: {' '.join(map(' '.join, f.switch))}")
        if not lines:
            lines = ["Nothing was measured in these runs; train with ANALYSIS.ENABLED True."]
        return "\n".join([*lines, "", CAVEAT])

    def to_dict(self) -> dict[str, Any]:
        """What the JSON holds: ``findings``, ``runs``, ``ap_table`` and ``caveat``.

        ``runs`` are as :func:`libra_umop.imbalance.measures.measure.measure_run` gives them; boxes
        of single images are left out.
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
        from ... import __version__

        names = [m["name"] for m in self.measured]
        return render(
            TEMPLATES / "report.html",
            "Imbalance report: " + ", ".join(names),
            all_sections(self.runs, self.measured, self.min_score),
            runs=[(m["name"], describe(m)) for m in self.measured],
            run_index={name: i for i, name in enumerate(names)},
            findings=self.findings,
            tiles=self.tiles(),
            levers=LEVERS,
            caveat=CAVEAT,
            collections=[
                (m["name"], m["collection"])
                for m in self.measured
                if m["collection"] and m["collection"]["share_of_training"] is not None
            ],
            version=__version__,
        )

    def tiles(self) -> list[Finding]:
        """For each imbalance a finding with two numbers, of the first run that has one."""
        with_pairs = [f for m in self.measured for f in self.findings if f.run == m["name"]]
        with_pairs = [f for f in with_pairs if f.pair]
        first = (
            next((f for f in with_pairs if f.imbalance == imbalance.name), None)
            for imbalance in IMBALANCES
        )
        return [f for f in first if f]

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
