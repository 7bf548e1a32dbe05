"""The answer of a study, out of the records of its runs.

Per data set and variant, against the baseline, with how sure that is.
"""

from pathlib import Path
from typing import Any

from ...errors import ConfigError
from ..records import BASELINE, PLAN_FILE, read_json, read_record, run_folder
from .statistics import CONFIDENCE, NOT_SHOWN, holm, mean, paired_difference, spread

__all__ = ["METRICS", "as_text", "collect"]

# Short name: name in the metrics of a run.
METRICS = {
    "AP": "bbox/AP",
    "AP50": "bbox/AP50",
    "AP75": "bbox/AP75",
    "APs": "bbox/APs",
    "APm": "bbox/APm",
    "APl": "bbox/APl",
}
Records = dict[int, dict[str, Any]]  # by seed


def collect(folder: Path) -> dict[str, Any]:
    """Everything that the runs below ``folder`` have shown so far, of plain values.

    Works on any machine that sees the folder, while runs go on.

    Raises:
        ConfigError: there is no study; or scipy is missing.
    """
    plan = read_json(Path(folder) / PLAN_FILE)
    if not plan:
        raise ConfigError(f"{folder}: has no {PLAN_FILE}; is it the --output of a study?")
    datasets = {name: _dataset(Path(folder), plan, name) for name in plan["datasets"]}
    _count_comparisons(datasets)
    return {
        "config_file": plan["config_file"],
        "opts": plan["opts"],
        "seeds": plan["seeds"],
        "confidence": CONFIDENCE,
        "datasets": datasets,
        "notes": _notes(datasets),
    }


def _dataset(folder: Path, plan: dict[str, Any], name: str) -> dict[str, Any]:
    records = {
        variant["name"]: {
            seed: read_record(run_folder(folder, name, variant["name"], seed))
            for seed in plan["seeds"]
        }
        for variant in plan["variants"]
    }
    rows = [_row(v, records[v["name"]], records[BASELINE]) for v in plan["variants"]]
    return {"path": plan["datasets"][name], "variants": rows}


def _row(variant: dict[str, Any], records: Records, base: Records) -> dict[str, Any]:
    """One variant on one data set."""
    is_base = variant["name"] == BASELINE
    done = {seed: r for seed, r in records.items() if r.get("status") == "done"}
    failed = {seed: r for seed, r in records.items() if r.get("status") == "failed"}
    return {
        **variant,
        "seeds_done": sorted(done),
        "failed": {seed: r.get("reason", "") for seed, r in failed.items()},
        "metrics": {
            short: _metric(_by_seed(records, key), None if is_base else _by_seed(base, key))
            for short, key in METRICS.items()
        },
        "step_seconds": mean(_values(done, "step_seconds")),
        "memory_mib": mean(_values(done, "memory_mib")),
        "step_ratio": _mean_ratio(records, base, "step_seconds"),
        "memory_ratio": _mean_ratio(records, base, "memory_mib"),
        "devices": sorted({str(r.get("device")) for r in done.values()}),
    }


def _metric(by_seed: dict[int, float], base: dict[int, float] | None) -> dict[str, Any]:
    values = list(by_seed.values())
    result: dict[str, Any] = {"by_seed": by_seed, "mean": mean(values), "std": spread(values)}
    if base is not None:
        result["difference"] = paired_difference(by_seed, base)._asdict()
    return result


def _by_seed(records: Records, metric: str) -> dict[int, float]:
    values = {
        seed: record["metrics"].get(metric)
        for seed, record in records.items()
        if record.get("status") == "done"
    }
    return {seed: value for seed, value in values.items() if value is not None}


def _values(records: Records, key: str) -> list[float]:
    return [r[key] for r in records.values() if r.get(key) is not None]


def _mean_ratio(records: Records, base: Records, key: str) -> float | None:
    """Mean over seeds of variant over baseline; only where both were made on the same device."""
    pairs = [(record, base.get(seed, {})) for seed, record in records.items()]
    return mean(
        [
            ours[key] / theirs[key]
            for ours, theirs in pairs
            if ours.get(key) and theirs.get(key) and ours.get("device") == theirs.get("device")
        ]
    )


def _compared(datasets: dict[str, Any]) -> list[dict[str, Any]]:
    """The differences of AP that have an interval to judge by."""
    differences = [
        row["metrics"]["AP"]["difference"]
        for dataset in datasets.values()
        for row in dataset["variants"]
        if row["name"] != BASELINE
    ]
    return [d for d in differences if d["p"] is not None]


def _count_comparisons(datasets: dict[str, Any]) -> None:
    """Say of a verdict that it would not stand if all comparisons of the study were counted."""
    compared = _compared(datasets)
    for difference, p in zip(compared, holm([d["p"] for d in compared]), strict=True):
        difference["p_holm"] = p
        if difference["verdict"] != NOT_SHOWN and p > 1 - CONFIDENCE:
            difference["reason"] = (
                f"alone; not among {len(compared)} comparisons (Holm's p {p:.2f})"
            )


def _notes(datasets: dict[str, Any]) -> list[str]:
    """What has to be known to read the numbers."""
    notes = [
        "A difference is the mean over seeds of variant minus baseline under the same seed: same"
        " initial weights, same order of images, same augmentation. In brackets its 95 % interval"
        " by Student's t."
    ]
    if any(_has_other_seeds(dataset["variants"]) for dataset in datasets.values()):
        notes.append(
            "Columns of AP are means over a row's own seeds: not to be subtracted where rows have"
            " different seeds; the difference is over those that both have."
        )
    rows = [row for dataset in datasets.values() for row in dataset["variants"]]
    if any(not device.startswith("cpu") for row in rows for device in row["devices"]):
        notes.append(
            "On a GPU some sums are added in a varying order: a run made twice may differ, and"
            " pairing does not take that noise out of an interval."
        )
    compared = len(_compared(datasets))
    if compared > 1:
        notes.append(
            f"{compared} comparisons at 95 %: if no lever did anything, {0.05 * compared:.1f} of"
            " them would be expected to leave out 0 by chance."
        )
    return notes


def _has_other_seeds(rows: list[dict[str, Any]]) -> bool:
    """Whether rows that have runs have them of different seeds."""
    return len({tuple(row["seeds_done"]) for row in rows if row["seeds_done"]}) > 1


def as_text(results: dict[str, Any]) -> str:
    """The answer for a terminal: a table for each data set."""
    opts = f" with {' '.join(map(str, results['opts']))}" if results["opts"] else ""
    lines = [f"study of {results['config_file']}{opts}"]
    for name, dataset in results["datasets"].items():
        lines += ["", name, *_table(dataset["variants"])]
    return "\n".join([*lines, "", *results["notes"]])


def table_cells(rows: list[dict[str, Any]]) -> list[list[str]]:
    """Header and rows of one data set's table, all text."""
    header = [
        "variant",
        "seeds",
        *METRICS,
        "difference of AP",
        "to halve",
        "step",
        "memory",
        "verdict",
    ]
    return [header, *map(_cells, rows)]


def _table(rows: list[dict[str, Any]]) -> list[str]:
    table = table_cells(rows)
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    lines = [
        "  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in table
    ]
    return lines + failures(rows)


def failures(rows: list[dict[str, Any]]) -> list[str]:
    """A line for each run that failed."""
    return [
        f"{row['name']} seed {seed} failed: {reason}"
        for row in rows
        for seed, reason in row["failed"].items()
    ]


def _cells(row: dict[str, Any]) -> list[str]:
    metrics = row["metrics"]
    cells = [row["name"], str(len(row["seeds_done"]))]
    cells += [_shown(metrics[short]["mean"], "{:.2f}") for short in METRICS]
    if row["name"] == BASELINE:
        step, memory = row["step_seconds"], row["memory_mib"]
        return cells + ["", "", _shown(step, "{:.3f} s"), _shown(memory, "{:.0f} MiB"), ""]
    difference = metrics["AP"]["difference"]
    cells += [interval(difference), _shown(difference["seeds_to_halve"], "+{}")]
    cells += [_shown(row["step_ratio"], "x {:.2f}"), _shown(row["memory_ratio"], "x {:.2f}")]
    return [*cells, verdict(difference)]


def _shown(value: Any, form: str) -> str:
    return "-" if value is None else form.format(value)


def interval(difference: dict[str, Any]) -> str:
    """Mean difference and its interval, as far as there are any."""
    if difference["mean"] is None:
        return "-"
    text = f"{difference['mean']:+.2f}"
    if difference["low"] is None:
        return text
    return f"{text} [{difference['low']:+.2f}, {difference['high']:+.2f}]"


def verdict(difference: dict[str, Any]) -> str:
    """One of "helps", "hurts", "not shown", and why or how far."""
    reason = difference["reason"]
    return f"{difference['verdict']}: {reason}" if reason else difference["verdict"]
