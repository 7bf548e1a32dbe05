"""Runs side by side: curves over training and the table of AP with differences to the first run."""

import math
from typing import Any

from .run import Run, metric_name

AP_NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl")


def loss_names(runs: list[Run]) -> list[str]:
    """The losses that the runs logged, ``total_loss`` first."""
    names = {k for run in runs for line in run.metrics for k in line if "loss" in k.split("/")[-1]}
    names = {n for n in names if "val" not in n and "normalizer" not in n}
    return sorted(names, key=lambda n: (n != "total_loss", n))


def series(run: Run, name: str) -> tuple[list[int], list[float]]:
    """Iterations and values of one metric; what is not finite is left out."""
    rows = [
        (line["iteration"], float(line[name]))
        for line in run.metrics
        if isinstance(line.get(name), (int, float))
        and math.isfinite(line[name])
        and "iteration" in line
    ]
    return [r[0] for r in rows], [r[1] for r in rows]


def smooth(values: list[float]) -> list[float]:
    """Moving average over a tenth of the values, centred: a straight line stays what it is.

    The window shrinks towards both ends, so that the average begins and ends where the values do;
    nothing is padded.
    """
    reach = len(values) // 20 + 1
    result = []
    for i in range(len(values)):
        half = min(reach, i, len(values) - 1 - i)
        window = values[i - half : i + half + 1]
        result.append(sum(window) / len(window))
    return result


def ap_series(run: Run, task: str = "bbox", name: str = "AP") -> tuple[list[int], list[float]]:
    """AP over training; with several test sets, the last one logged in a line."""
    keys = {k for line in run.metrics for k in line if metric_name(k, task) == name}
    rows: dict[int, float] = {}
    for key in sorted(keys):
        rows.update(zip(*series(run, key), strict=True))
    return sorted(rows), [rows[i] for i in sorted(rows)]


def ap_table(runs: list[Run]) -> dict[str, Any]:
    """The last evaluation of each run.

    Returns:
        ``rows``: [{name, values, differences}]; values and differences to the first run are one
        per run, None where there is none; ``AP`` to ``APl`` first, then one row per class.
    """
    metrics = [run.final_metrics() for run in runs]
    names = [n for n in AP_NAMES if any(n in m for m in metrics)]
    classes = sorted({n for m in metrics for n in m if n.startswith("AP-")})
    rows = []
    for name in names + classes:
        values = [_finite(m.get(name)) for m in metrics]
        first = values[0]
        differences = [v - first if v is not None and first is not None else None for v in values]
        rows.append({"name": name, "values": values, "differences": differences})
    return {"rows": rows}


def _finite(value: Any) -> Any:
    """``value`` if it is a finite number, else None."""
    return value if value is not None and math.isfinite(value) else None
