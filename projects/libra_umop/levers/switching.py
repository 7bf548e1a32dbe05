"""Which levers a config has, and what switches one of them."""

from collections.abc import Mapping
from typing import Any

from .families import FAMILIES, find_family
from .table import LEVERS, Lever
from .values import ARCHITECTURE, HEADS, Values
from .ways import Way

__all__ = ["active", "as_text", "baseline", "levers_for", "stand_in", "switch"]

Pairs = list[tuple[str, Any]]


def levers_for(cfg: Mapping) -> list[Lever]:
    """The rows that ``cfg`` can be switched to, in the table's order.

    A row of several levers is among them where its family has two of its parts or more and no
    other row stands for the same; one that needs another lever, where that is on.
    """
    values = Values(cfg)
    rows: dict[tuple[str, ...], Lever] = {}
    for lever in LEVERS.values():
        if not _why_not(lever, values):
            parts = lever.parts_in(find_family(values))
            rows.setdefault(tuple(part.name for part in parts), lever)
    return list(rows.values())


def active(cfg: Mapping) -> list[str]:
    """The names of the single levers that ``cfg`` trains with."""
    return _active(Values(cfg))


def switch(cfg: Mapping, name: str, on: bool = True) -> Pairs:
    """What switches one row of the table on or off, and leaves all other levers as they are.

    Args:
        cfg: a whole config.
        name: of the row.
        on: False for off.

    Returns:
        (KEY, value) pairs to merge into ``cfg``: the lever's own keys, whether or not they change
        anything; where ``cfg`` has another one, the class that knows it, and what it cannot do
        without, such as a transition point; what switches off the levers that cannot be on
        together with it; and what keeps the levers off that this class brings along.

    Raises:
        ValueError: there is no such lever, or not in this detector.
    """
    values = Values(cfg)
    rows = _lever(name, values).parts_in(find_family(values))
    ways = {row.name: _way(row, values) for row in rows}
    before = set(_active(values))
    if on:
        others = {other: _way(LEVERS[other], values) for other in before}
        keep = before | set(ways)
        keep -= {o for o in others if any(way.excludes(others[o]) for way in ways.values())}
    else:
        keep = before - set(ways)
    # Now, as the class that the wanted ones need may not know what these are switched with.
    _switch_off_others(values, keep)
    for way in ways.values():
        _apply(way, values, on)
    _switch_off_others(values, keep)
    return list(values.changes.items())


def baseline(cfg: Mapping) -> Pairs:
    """What makes of ``cfg`` the detector that its levers are to be compared with.

    It is of the class that knows the levers, all of them off: RetinaNet's is LibraRetinaNet, whose
    clipping and normaliser the levers have too; with its levers off it trains as Detectron2's.

    Raises:
        ValueError: the table does not know the detector.
    """
    values = Values(cfg)
    family = find_family(values)
    if family is None:
        raise ValueError(_unknown(values))
    values.change({family.chooser: family.baseline})
    _switch_off_others(values, keep=set())
    values.change({k: v for k, v in family.plain.items() if values[k] not in (v, None)})
    return list(values.changes.items())


def stand_in(name: str, chooser: str, component: str) -> str:
    """The class that knows a lever, for a component that does not.

    Args:
        name: of the lever.
        chooser: the key that names the component.
        component: its value, of this table or not.
    """
    ways = LEVERS[name].ways
    families = sorted(FAMILIES.values(), key=lambda family: component not in family.classes)
    known = [ways[family.name] for family in families if family.name in ways]
    return next(way.classes[0] for way in known if way.chooser == chooser)


def as_text(pairs: Pairs) -> str:
    """Pairs as they stand on a command line, KEY value KEY value."""
    return " ".join(f"{key} {value}" for key, value in pairs)


def _way(lever: Lever, values: Values) -> Way:
    way = lever.way_in(find_family(values))
    assert way is not None, lever.name
    return way


def _active(values: Values) -> list[str]:
    return [lever.name for lever in LEVERS.values() if lever.ways and lever.is_on_in(values)]


def _apply(way: Way, values: Values, on: bool) -> None:
    if on and way.chooser and values[way.chooser] not in way.classes:
        values.change({way.chooser: way.classes[0]})
    values.change(way.on if on else way.off)


def _switch_off_others(values: Values, keep: set[str]) -> None:
    for name in _active(values):
        lever = LEVERS[name]
        if name not in keep and lever.is_on_in(values):
            _apply(_way(lever, values), values, on=False)


def _lever(name: str, values: Values) -> Lever:
    lever = LEVERS.get(name)
    why_not = _why_not(lever, values) if lever else "no such lever"
    if lever is None or why_not:
        known = ", ".join(row.name for row in LEVERS.values() if not _why_not(row, values))
        raise ValueError(f"lever is {name!r}: {why_not}; should be one of {known or 'none'}")
    return lever


def _why_not(lever: Lever, values: Values) -> str:
    """Why a row cannot be switched in this config; "" where it can."""
    family = find_family(values)
    if family is None:
        return _unknown(values)
    if len(lever.parts_in(family)) < min(2, len(lever.parts) or 1):
        return f"{family.title} has no such lever"
    missing = [name for name in lever.needs if not LEVERS[name].is_on_in(values)]
    return f"it changes nothing without {missing[0]}" if missing else ""


def _unknown(values: Values) -> str:
    names = f"{ARCHITECTURE} {values[ARCHITECTURE]} and {HEADS} {values[HEADS]}"
    return f"no levers are known for {names}"
