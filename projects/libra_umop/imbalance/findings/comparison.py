"""The finding about several runs: AP of each against the first."""

from ..report.compare import ap_table
from ..report.run import Run
from .finding import Finding


def find(runs: list[Run]) -> list[Finding]:
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
        numbers = {"AP": value, "difference": gap}
        findings.append(Finding("comparison", "", run.name, text, numbers=numbers, of_run=False))
    return findings
