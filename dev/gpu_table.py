"""The figures of gpu_check.py as Markdown, for benchmarks/log."""

from typing import Any


def markdown(report: dict[str, Any]) -> str:
    """All sections that the report has, in the order in which they run."""
    env = report["environment"]
    commits = ", ".join(f"{name} {commit}" for name, commit in report["commits"].items())
    blocks = [f"{env['device']}, torch {env['torch']}; commits: {commits}"]
    for name, render in SECTIONS.items():
        if name in report:
            blocks.append(render(report[name]))
    return "\n\n".join(blocks)


def table(header: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, ["---"] * len(header), *rows])


def tests(figures: dict[str, Any]) -> str:
    """The section that says how many tests passed."""
    bad = figures["failures"] + figures["errors"]
    passed = figures["tests"] - bad - figures["skipped"]
    counts = f"{passed} passed, {bad} failed, {figures['skipped']} skipped"
    return "\n".join([f"Tests: {counts}, {figures['seconds']:.0f} s", *figures["failed"]])


def steps(figures: dict[str, Any]) -> str:
    """The section on step times."""
    rows = []
    for group in figures["groups"]:
        height, width = group["size"]
        place = f"{group['batch']} x {height}x{width}, {group['precision']}"
        for label, row in group["rows"].items():
            memory = f"{row['mib']:.0f}" if "mib" in row else ""
            cells = [f"{row['ms']:.1f}", f"{row['ratio']:.3f}", f"{row['images_per_s']:.1f}"]
            rows.append([place, label, *cells, memory])
            place = ""
    return table(["training step", "", "ms", "ratio", "images/s", "MiB"], rows)


def losses(figures: dict[str, Any]) -> str:
    """The section on times of the losses."""
    copy = figures["copy_gb_per_s"]
    rows = []
    for name, row in figures["rows"].items():
        share = f"{100 * row['gb_per_s'] / copy:.0f} %" if "gb_per_s" in row else ""
        rows.append([name, f"{row['ms']:.3f}", share])
    return table(["alone", "ms", f"of a copy's {copy:.0f} GB/s"], rows)


def inference(figures: dict[str, Any]) -> str:
    """The section on times of inference."""
    names = sorted({name for row in figures["rows"].values() for name in row})
    rows = [
        [label, *(f"{row[name]:.1f}" if name in row else "" for name in names)]
        for label, row in figures["rows"].items()
    ]
    return table(["inference, ms an image", *names], rows)


def profile(figures: dict[str, Any]) -> str:
    """The section on what a step's time goes to."""
    blocks = []
    for label, found in figures.items():
        rows = [[f"`{key}`", f"{ms:.2f}", str(count)] for key, ms, count in found["top"]]
        waits = ", ".join(f"{name} {count}" for name, count in found["waits"].items())
        total = f"{label}: {found['total_ms']:.1f} ms in all kernels"
        blocks += [table([total, "ms", "calls"], rows), f"Waits: {waits or 'none'}"]
    return "\n\n".join(blocks)


def study(figures: dict[str, Any]) -> str:
    """The section on the study."""
    return figures["text"]


SECTIONS = {
    "tests": tests,
    "additions": steps,
    "steps": steps,
    "losses": losses,
    "inference": inference,
    "profile": profile,
    "study": study,
}
