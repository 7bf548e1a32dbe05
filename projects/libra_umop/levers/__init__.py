"""The levers: what this project can switch on in a detector, each in one row of one table.

A lever cures one imbalance. A row says for each family of detectors which keys switch it on and
off, and which classes know it, so that config checks, findings, documents and comparisons say the
same. One lever is one difference: :func:`switch` changes the named lever and no other one, though
the class that it needs may bring others along that are on by default.

A new lever is a row of ``table.py``, whose ways ``ways.py`` makes; a new family of detectors is a
row of ``families.py``. Configs are read as nested mappings, a ``CfgNode`` or the dicts of a
``config.yaml``, with this project's keys in them.
"""

from .families import FAMILIES, Family, family_of
from .switching import active, as_text, baseline, levers_for, stand_in, switch
from .table import IMBALANCES, LEVERS, Lever
from .ways import Way

__all__ = [
    "FAMILIES",
    "IMBALANCES",
    "LEVERS",
    "Family",
    "Lever",
    "Way",
    "active",
    "as_text",
    "baseline",
    "family_of",
    "levers_for",
    "stand_in",
    "switch",
]
