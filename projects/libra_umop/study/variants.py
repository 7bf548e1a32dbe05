"""The rows of a study: what each of its variants differs by from the base config."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from detectron2.config import CfgNode

from ..config.loading import merge_opts, refuse_repeated_keys
from ..errors import ConfigError
from ..levers import LEVERS, active, as_text, baseline, levers_for, switch
from .records import BASELINE

__all__ = ["Variant", "differing_keys", "merge_pairs", "parse_variants"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+=-]*")

Pairs = list[tuple[str, Any]]


class Variant(NamedTuple):
    """A row: what it differs by from the base config.

    Attributes:
        name: also its folder's.
        title: in words.
        keys: (KEY, value) to merge into the base config.
    """

    name: str
    title: str
    keys: tuple[tuple[str, Any], ...]

    def as_dict(self) -> dict[str, Any]:
        """Of plain values."""
        return {"name": self.name, "title": self.title, "keys": as_text(list(self.keys))}


def parse_variants(base: CfgNode, spec: str, *, as_is: bool = False) -> list[Variant]:
    """The baseline and the rows that ``--levers`` asks for, the baseline first.

    Args:
        base: the whole base config.
        spec: comma-separated names of the table of levers, "a+b" for several at once, and
            ``.yaml`` files of rows of one's own; "" for all levers that the detector has.
        as_is: compare with ``base`` as it is, not with its levers off.

    Raises:
        ConfigError: naming the row that cannot be had, and those that can.
    """
    start, title = _baseline(base, as_is)
    variants = {BASELINE: Variant(BASELINE, title, tuple(start))}
    for variant in _rows(_with(base, start), start, spec):
        if not NAME.fullmatch(variant.name) or variant.name in variants:
            wrong = "is there twice" if variant.name in variants else "should be letters, digits, _"
            raise ConfigError(f"--levers: the row {variant.name!r} {wrong}")
        variants[variant.name] = variant
    if len(variants) == 1:
        raise ConfigError("--levers names nothing to compare the baseline with")
    return list(variants.values())


def _baseline(base: CfgNode, as_is: bool) -> tuple[Pairs, str]:
    if as_is:
        on = " + ".join(active(base))
        return [], "the config as it is" + (f", with {on}" if on else "")
    try:
        return baseline(base), "all levers off"
    except ValueError as e:
        raise ConfigError(f"{e}; --as-is compares with the config as it is") from e


def _rows(base: CfgNode, start: Pairs, spec: str) -> Iterator[Variant]:
    words = [word.strip() for word in spec.split(",") if word.strip()]
    if not spec:
        words = [lever.name for lever in levers_for(base) if lever.name not in active(base)]
    for word in words:
        if word.endswith((".yaml", ".yml")):
            yield from _rows_of_file(base, start, word)
        else:
            name, title, pairs = _levers(base, word)
            yield Variant(name, title, tuple(start + pairs))


def _levers(base: CfgNode, word: str) -> tuple[str, str, Pairs]:
    """Name, title and keys of "a+b"; a lever that needs another one brings it along."""
    names: list[str] = []
    for name in word.split("+"):
        needs = LEVERS[name].needs if name in LEVERS else ()
        names += [n for n in (*needs, name) if n not in names]
    names = [name for name in names if name in word.split("+") or name not in active(base)]
    cfg, pairs = base, []
    for name in names:
        try:
            new = switch(cfg, name)
        except ValueError as e:
            raise ConfigError(f"--levers: {e}") from e
        pairs += new
        cfg = _with(cfg, new)
    titles = [LEVERS[name].title for name in names]
    return "+".join(names), "; ".join(titles), pairs


def _with(cfg: CfgNode, pairs: Pairs) -> CfgNode:
    cfg = cfg.clone()
    cfg.defrost()
    merge_pairs(cfg, pairs)
    return cfg


def _rows_of_file(base: CfgNode, start: Pairs, path: str) -> Iterator[Variant]:
    """``name: {levers: a+b, title: words, KEY: value, ...}`` of a YAML file, all optional."""
    content = _read_rows(path)
    for name, row in content.items():
        if not isinstance(row, dict):
            raise ConfigError(f"{path}: row {name!r} is {row!r}, should be KEY: value pairs")
        row = dict(row)
        lever, title = row.pop("levers", ""), row.pop("title", "")
        pairs = _levers(base, str(lever))[2] if lever else []
        own = list(_dotted(row))
        merged = _with(base, [*pairs, *own])  # a key or type that is wrong is named here
        del merged
        words = title or " ".join(filter(None, [str(lever), as_text(own)]))
        yield Variant(str(name), words, tuple([*start, *pairs, *own]))


def _read_rows(path: str) -> dict[str, Any]:
    try:
        text = Path(path).read_text(encoding="utf-8")
        content = yaml.safe_load(text)
        refuse_repeated_keys(text, f"--levers: {path}")
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"--levers: {path} cannot be read: {e}") from e
    except yaml.YAMLError as e:
        raise ConfigError(f"--levers: {path} is not YAML: {' '.join(str(e).split())}") from e
    if not isinstance(content, dict):
        raise ConfigError(f"--levers: {path} holds no rows; should be NAME: {{KEY: value}}")
    return content


def _dotted(node: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested or dotted keys as (dotted KEY, value)."""
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def differing_keys(old: dict[str, Any], new: dict[str, Any], ignored: set[str]) -> list[str]:
    """``KEY old -> new`` of every leaf in which two nested configs differ, but for ``ignored``."""
    before, after = dict(_dotted(old)), dict(_dotted(new))
    lines = []
    for key in sorted((before.keys() | after.keys()) - ignored):
        if before.get(key) != after.get(key):
            lines.append(f"{key} was {before.get(key)!r}, is {after.get(key)!r}")
    return lines


def merge_pairs(cfg: CfgNode, pairs: Sequence[tuple[str, Any]]) -> None:
    """Merge (KEY, value) pairs into a config, as if they stood on a command line."""
    merge_opts(cfg, [word for pair in pairs for word in pair])
