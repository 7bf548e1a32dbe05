"""The matrix of a study: which variants, on which data, under which seeds, each with its config."""

import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode

from ..config.checks import check_config
from ..config.devices import choose_device
from ..config.loading import load_layers
from ..data.arguments import configure_dataset
from ..data.dataset_args import DataSource, RunOptions
from ..errors import ConfigError
from .records import run_folder
from .variants import Variant, merge_pairs, parse_variants

__all__ = ["Plan", "PlannedRun", "make_plan"]

# A study judges the last weights of each run, and has many runs on one disk.
STUDY_DEFAULTS = {"TEST.BEST_CHECKPOINT.ENABLED": False, "SOLVER.CHECKPOINT_KEEP": 1}


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
        folder_of_data = Path(path).parent if os.path.isfile(path) else Path(path)
        name = folder_of_data.resolve().name
        if name in bases:
            raise ConfigError(f"--dataset names two folders called {name!r}; rename one")
        layers = load_layers(args.config_file, args.opts)
        cfg = layers.cfg
        merge_pairs(cfg, [(k, v) for k, v in STUDY_DEFAULTS.items() if k not in given])
        if not gpus:  # otherwise nothing may ask CUDA before the runs are forked
            lines.append(choose_device(cfg, layers.given))
        cfg.OUTPUT_DIR = str(folder / "data" / name)
        source = DataSource.by(args, dataset=path)
        lines += configure_dataset(layers, source, RunOptions.by(args, resume=False))
        bases[name] = cfg
    return bases, [line for line in lines if line]


def _config_of(folder: Path, base: CfgNode, dataset: str, variant: Variant, seed: int) -> CfgNode:
    cfg = base.clone()
    merge_pairs(cfg, variant.keys)
    cfg.SEED = seed
    cfg.OUTPUT_DIR = str(run_folder(folder, dataset, variant.name, seed))
    try:
        check_config(cfg, f"variant {variant.name}")
    except ConfigError as e:
        raise ConfigError(f"variant {variant.name}: {e}") from e
    cfg.freeze()
    return cfg


def threads_of_a_run(jobs: int) -> int:
    """This process's cores shared among the jobs; at most OMP_NUM_THREADS where that is set."""
    has_affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    most = os.environ.get("OMP_NUM_THREADS", "")
    share = max(1, cores // jobs)
    return min(share, int(most)) if most.isdigit() and int(most) else share
