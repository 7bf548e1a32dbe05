#!/usr/bin/env python
"""Keep the tables of MODEL_ZOO.md true to configs/.

    dev/model_zoo.py             write the tables from dev/model_zoo.csv and configs/
    dev/model_zoo.py --check     only say whether they are up to date
    dev/model_zoo.py --measure   count parameters and operations of every config anew, not only
                                 of those that have no row yet

The CSV is the one place of published AP. Operations are multiply-adds for one image of 800x1333,
padded to 800x1344, as fvcore counts them.
"""

import argparse
import csv
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

REPO = Path(__file__).resolve().parents[1]
CSV = REPO / "dev" / "model_zoo.csv"
PAGE = REPO / "MODEL_ZOO.md"
BEGIN, END = "<!-- table: {} -->", "<!-- end of table -->"
# Of quick configs, by the last part of their name.
DATASETS = {
    "shapes": " --dataset output/shapes",
    "bccd": " --dataset BCCD",
    "own": " --dataset DIR",
    "finetune": " --dataset DIR",
}


class Row(NamedTuple):
    """One config: what was published for it, and its size. All as text; "" for unknown."""

    config: str  # relative to configs/
    published_ap: str
    params_m: str = ""
    gflops: str = ""


def config_names() -> list[str]:
    """Every config that is not a base, sorted."""
    configs = REPO / "configs"
    names = (str(path.relative_to(configs)) for path in configs.rglob("*.yaml"))
    return sorted(name for name in names if not Path(name).name.startswith("Base-"))


def read_rows() -> dict[str, Row]:
    """The rows of the measured table, by config."""
    with open(CSV, newline="") as f:
        return {line["config"]: Row(**line) for line in csv.DictReader(f)}


def write_rows(rows: Iterable[Row]) -> None:
    """Write the rows of the measured table."""
    with open(CSV, "w", newline="") as f:
        writer = csv.writer(f, lineterminator="\n")
        writer.writerow(Row._fields)
        writer.writerows(sorted(rows))


def table(rows: dict[str, Row], folder: str) -> str:
    """The Markdown table of one folder of configs/."""
    lines = [
        "| config | published AP | params, M | GFLOPs | command |",
        "|---|---|---|---|---|",
    ]
    for name in config_names():
        if name.startswith(folder + "/"):
            row = rows[name]
            label = Path(name).stem.replace("_FPN", "")
            command = f"python train_net.py --config-file configs/{name}" + DATASETS.get(
                Path(name).stem.rsplit("_", 1)[-1], ""
            )
            link = f"[{label}](configs/{name})"
            cells = (link, row.published_ap or "-", row.params_m, row.gflops, f"`{command}`")
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def render(page: str, rows: dict[str, Row]) -> str:
    """``page`` with the part between each pair of markers written anew."""
    for folder in sorted({name.split("/")[0] for name in config_names()}):
        begin = BEGIN.format(folder)
        if begin not in page:
            raise SystemExit(f"{PAGE.name} has no {begin!r}")
        head, rest = page.split(begin, 1)
        page = head + begin + "\n" + table(rows, folder) + "\n" + END + rest.split(END, 1)[1]
    return page


def main() -> None:
    """Measure configs, write the table, or check it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="change nothing; 1 if out of date")
    parser.add_argument("--measure", action="store_true", help="count all anew")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    names, rows = config_names(), read_rows()
    if args.check and names != sorted(rows):
        raise SystemExit(f"{CSV.name} and configs/ differ in {sorted(set(names) ^ set(rows))}")
    unknown = [name for name in names if args.measure or name not in rows]
    if unknown or len(rows) > len(names):
        from count_operations import measure  # torch takes seconds

        rows |= {n: rows.get(n, Row(n, ""))._replace(**measure(n)) for n in unknown}
        rows = {name: rows[name] for name in names}
        write_rows(rows.values())
    page = PAGE.read_text()
    rendered = render(page, rows)
    if args.check:
        sys.exit(rendered != page)
    PAGE.write_text(rendered)


if __name__ == "__main__":
    main()
