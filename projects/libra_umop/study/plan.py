"""The matrix of a study: which variants, on which data, under which seeds, each with its config."""

import argparse
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from detectron2.config import CfgNode
from detectron2.engine import default_argument_parser

from ..config.checks import check_config
from ..config.devices import choose_device
from ..config.loading import load_layers, merge_opts, refuse_repeated_keys
from ..data.arguments import add_dataset_args, configure_dataset
from ..errors import ConfigError
from ..levers import LEVERS, active, as_text, baseline, levers_for, switch
from .records import BASELINE, run_folder

__all__ = ["Plan", "PlannedRun", "Variant", "make_plan", "parse_variants"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+=-]*")
# A study judges the last weights of each run, and has many runs on one disk.
STUDY_DEFAULTS = {"TEST.BEST_CHECKPOINT.ENABLED": False, "SOLVER.CHECKPOINT_KEEP": 1}

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


@dataclass(frozen=True)
class PlannedRun:
    """One run, whose config is whole: ``OUTPUT_DIR`` and ``SEED`` included."""

    dataset: str
    variant: str
    seed: int
    cfg: CfgNode

    @property
    def folder(self) -> Path:
        """Its OUTPUT_DIR."""
        return Path(self.cfg.OUTPUT_DIR)

    def __str__(self) -> str:
        return f"{self.dataset} {self.variant} seed {self.seed}"


@dataclass(frozen=True)
class Plan:
    """All runs, seed by seed, and what people want to know of them."""

    folder: Path
    config_file: str
    datasets: dict[str, str]  # name: what the command line says of it
    variants: list[Variant]
    seeds: list[int]
    opts: list[str]
    runs: list[PlannedRun]
    lines: list[str]

    def as_dict(self) -> dict[str, Any]:
        """What a collector needs, of plain values."""
        return {
            "config_file": self.config_file,
            "datasets": self.datasets,
            "variants": [variant.as_dict() for variant in self.variants],
            "seeds": self.seeds,
            "opts": self.opts,
        }


def make_plan(args: argparse.Namespace, gpus: int = 0) -> Plan:
    """The plan that a command line asks for; every dataset is read, checked and registered.

    Args:
        args: of ``tools/study.py``.
        gpus: CUDA devices of this machine.

    Raises:
        ConfigError, DatasetError: what a user can mend.
    """
    folder = Path(args.output).resolve()
    bases, lines = _configure(args, folder, gpus)
    first = next(iter(bases.values()))
    variants = parse_variants(first, args.levers, as_is=args.as_is)
    seeds = list(range(args.first_seed, args.first_seed + args.seeds))
    runs = [
        PlannedRun(dataset, variant.name, seed, _config_of(folder, base, dataset, variant, seed))
        for seed in seeds
        for dataset, base in bases.items()
        for variant in variants
    ]
    return Plan(
        folder,
        str(args.config_file),
        {name: str(path) for name, path in zip(bases, args.dataset, strict=True)},
        variants,
        seeds,
        list(args.opts),
        runs,
        lines,
    )


def _configure(
    args: argparse.Namespace, folder: Path, gpus: int
) -> tuple[dict[str, CfgNode], list[str]]:
    """The base config on each dataset, by the dataset's name, and what was decided."""
    bases: dict[str, CfgNode] = {}
    lines: list[str] = []
    given = set(args.opts[::2])
    clash = sorted(given & {"SEED", "OUTPUT_DIR"})
    if clash:
        raise ConfigError(f"{clash[0]} is the study's to set; use --first-seed, --output")
    for path in args.dataset:
        name = Path(path).resolve().name
        if name in bases:
            raise ConfigError(f"--dataset names two folders called {name!r}; rename one")
        layers = load_layers(args.config_file, args.opts)
        cfg = layers.cfg
        merge_opts(cfg, _flat([(k, v) for k, v in STUDY_DEFAULTS.items() if k not in given]))
        if not gpus:  # otherwise nothing may ask CUDA before the runs are forked
            lines.append(choose_device(cfg, _train_args(args, path)))
        cfg.OUTPUT_DIR = str(folder / "data" / name)
        lines += configure_dataset(layers, _train_args(args, path))
        bases[name] = cfg
    return bases, [line for line in lines if line]


def _train_args(args: argparse.Namespace, dataset: str) -> argparse.Namespace:
    """The study's arguments as ``train_net.py`` would have them for one dataset."""
    parser = default_argument_parser()
    add_dataset_args(parser)
    words = ["--config-file", args.config_file, "--dataset", dataset]
    words += ["--strict"] * args.strict
    words += ["--fit-anchors"] * args.fit_anchors + ["--fit-image-size"] * args.fit_image_size
    words += ["--epochs", str(args.epochs)] if args.epochs is not None else []
    return parser.parse_args([*words, *args.opts])


def _config_of(folder: Path, base: CfgNode, dataset: str, variant: Variant, seed: int) -> CfgNode:
    cfg = base.clone()
    merge_opts(cfg, _flat(variant.keys))
    cfg.SEED = seed
    cfg.OUTPUT_DIR = str(run_folder(folder, dataset, variant.name, seed))
    try:
        check_config(cfg, f"variant {variant.name}")
    except ConfigError as e:
        raise ConfigError(f"variant {variant.name}: {e}") from e
    cfg.freeze()
    return cfg


def _flat(pairs: Sequence[tuple[str, Any]]) -> list[Any]:
    return [word for pair in pairs for word in pair]


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
    merge_opts(cfg, _flat(pairs))
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


def threads_of_a_run(jobs: int) -> int:
    """This process's cores shared among the jobs; at most OMP_NUM_THREADS where that is set."""
    has_affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    most = os.environ.get("OMP_NUM_THREADS", "")
    share = max(1, cores // jobs)
    return min(share, int(most)) if most.isdigit() and int(most) else share
