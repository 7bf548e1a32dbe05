#!/usr/bin/env python
"""Write docs/config.md, the reference of the config keys, from where they are declared.

dev/config_page.py            write it
dev/config_page.py --check    only say whether it is up to date
"""

import argparse
import sys
from pathlib import Path

from libra_umop.key import DETECTRON2S, KEYS, Key
from libra_umop.utils.library_warnings import hide_library_warnings

PAGE = Path(__file__).resolve().parents[1] / "docs" / "config.md"
INTRODUCTION = """# Config keys

What this project adds to [Detectron2's keys][theirs], and what a value may be by itself. Any other
value, and a name that does not exist, is refused in one line before anything is built; so are keys
that do not go together. Written by `dev/config_page.py`.

[theirs]: https://detectron2.readthedocs.io/en/latest/modules/config.html#yaml-config-references
"""
DETECTRON2_SECTION = """## Detectron2's own keys

Their defaults and meanings are Detectron2's. These are checked, too:
"""


def page() -> str:
    """The whole page."""
    hide_library_warnings()
    from libra_umop.config import add_libra_umop_config  # noqa: F401  (declares the keys)

    ours = {name: key for name, key in KEYS.items() if key.default is not DETECTRON2S}
    groups = sorted({name.rpartition(".")[0] for name in ours})
    sections = [
        "\n".join(
            [
                f"## {group}\n",
                *("| key | default | should be | meaning |", "|---|---|---|---|"),
                *(_row(name, ours[name]) for name in ours if name.rpartition(".")[0] == group),
            ]
        )
        for group in groups
    ]
    theirs = [
        f"| `{name}` | {_cell(key.values.words)} |"
        for name, key in sorted(KEYS.items())
        if name not in ours
    ]
    table = "\n".join(["| key | should be |", "|---|---|", *theirs])
    return "\n".join([INTRODUCTION, *(f"{s}\n" for s in sections), DETECTRON2_SECTION, table, ""])


def _row(name: str, key: Key) -> str:
    default = repr(key.default).replace("'", '"')
    cells = (f"`{name.rpartition('.')[2]}`", f"`{default}`", key.values.words, key.meaning)
    return f"| {' | '.join(map(_cell, cells))} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> None:
    """Write the page of keys, or check it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="change nothing; 1 if out of date")
    args = parser.parse_args()
    if args.check:
        sys.exit(not PAGE.is_file() or PAGE.read_text() != page())
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
