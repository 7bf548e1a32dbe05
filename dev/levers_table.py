#!/usr/bin/env python
"""Keep the documents' table of levers true to libra_umop/levers.

dev/levers_table.py            write it
dev/levers_table.py --check    only say whether it is up to date
"""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from libra_umop.levers import LEVERS, Lever

PAGE = Path(__file__).resolve().parents[1] / "docs" / "levers.md"
BEGIN, END = "<!-- table: levers -->", "<!-- end of table -->"


def table() -> str:
    """The Markdown table."""
    lines = ["| lever | imbalance | cure | known to | keys |", "|---|---|---|---|---|"]
    for lever in LEVERS.values():
        cells = (
            f"`{lever.name}`",
            lever.imbalance or "several",
            f"{lever.title} ({lever.source})",
            _classes(lever),
            " + ".join(map(_code, lever.parts)) or _keys(lever),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _classes(lever: Lever) -> str:
    names = _unique(name for way in lever.ways.values() for name in way.classes[:1])
    return "" if lever.parts else ", ".join(map(_code, names)) or "any"


def _keys(lever: Lever) -> str:
    """Keys that differ in the detector alone stand once, as MODEL.{RETINANET,ATSS,FCOS}.<key>."""
    groups: dict[tuple[str, str], dict[str, None]] = {}
    for way in lever.ways.values():
        for key, value in way.on.items():
            if not callable(value):
                group, last = key.rsplit(".", 1)
                groups.setdefault((last, value), {})[group] = None
    pairs = (f"{_any_of(names)}.{last} {value}" for (last, value), names in groups.items())
    return ", ".join(map(_code, pairs))


def _any_of(groups: Iterable[str]) -> str:
    groups = list(groups)
    if len(groups) == 1:
        return groups[0]
    return f"MODEL.{{{','.join(group.removeprefix('MODEL.') for group in groups)}}}"


def _code(text: str) -> str:
    return f"`{text}`"


def _unique(values: Iterable[str]) -> Iterable[str]:
    return dict.fromkeys(values)


def render(page: str) -> str:
    """``page`` with the part between the markers written anew."""
    head, rest = page.split(BEGIN, 1)
    return f"{head}{BEGIN}\n{table()}\n{END}{rest.split(END, 1)[1]}"


def main() -> None:
    """Write the table, or check it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="change nothing; 1 if out of date")
    args = parser.parse_args()
    page = PAGE.read_text()
    rendered = render(page)
    if args.check:
        sys.exit(rendered != page)
    PAGE.write_text(rendered)


if __name__ == "__main__":
    main()
