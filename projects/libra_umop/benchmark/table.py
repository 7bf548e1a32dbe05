"""A benchmark's figures as JSON and as the Markdown tables of benchmarks/log."""

import json
import platform
from pathlib import Path
from typing import Any

import detectron2
import torch

TITLES = {
    "train_step": "training step, ms",
    "inference": "inference, ms",
    "train_step_memory": "memory of a training step, MiB",
    "inference_memory": "memory of inference, MiB",
    "loading": "data loading, images/s",
    "parameters": "parameters, millions",
}


def environment() -> dict[str, Any]:
    """What the figures depend on beside the configs."""
    if torch.cuda.is_available():
        device = torch.cuda.get_device_name()
    else:
        device = f"{_processor()}, {torch.get_num_threads()} threads"
    return {
        "device": device,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "detectron2": detectron2.__version__,
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()


def ratio(report: dict[str, Any], name: str, label: str) -> float | None:
    """A contender's figure ``name`` over the last one's, the baseline; None if either lacks it."""
    figures = report["figures"]
    baseline = figures[list(figures)[-1]].get(name)
    value = figures[label].get(name)
    return value / baseline if value and baseline else None


def markdown(report: dict[str, Any]) -> str:
    """One table: a row per figure, a column per contender, and the ratios to the last contender."""
    figures = report["figures"]
    labels = list(figures)
    header = [""] + labels + [f"{label} / {labels[-1]}" for label in labels[:-1]]
    rows: list[list[str]] = [header, ["---"] * len(header)]
    for name, title in TITLES.items():
        if not any(name in figures[label] for label in labels):
            continue
        row = [title] + [_format(figures[label].get(name)) for label in labels]
        for label in labels[:-1]:
            value = ratio(report, name, label)
            row.append("" if value is None else f"{value:.3f}")
        rows.append(row)
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"{table}\n\n{_conditions(report)}"


def _format(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 1000 else f"{value:.1f}"


def _conditions(report: dict[str, Any]) -> str:
    env, load = report["environment"], report["workload"]
    height, width = load["size"]
    return (
        f"Batches of {load['batch_size']} at {height}x{width}, medians of {load['iterations']} "
        f"rounds in turns, {env['device']}, torch {env['torch']}. `{report['command']}`"
    )


def write_json(report: dict[str, Any], file: Path) -> None:
    """Write the report, from which :func:`markdown` makes its table again."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(report, indent=2) + "\n")
