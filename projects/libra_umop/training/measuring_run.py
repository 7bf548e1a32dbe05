"""Measuring the imbalance of a config on a data set in a few iterations, without a full run."""

import os
from collections.abc import Sequence

from detectron2.config import CfgNode
from detectron2.engine import SimpleTrainer, hooks
from detectron2.solver import build_lr_scheduler
from detectron2.utils.env import seed_all_rng
from detectron2.utils.events import CommonMetricPrinter, JSONWriter
from detectron2.utils.logger import setup_logger

from ..config.checks import check_together
from ..config.devices import choose_device
from ..config.loading import load_layers
from ..data.arguments import configure_dataset
from ..data.dataset_args import DataSource, RunOptions
from ..errors import ConfigError
from ..imbalance.probes.collector import ImbalanceCollector
from .checkpoint.checkpointer import LibraCheckpointer
from .output_dir import free_folder, traces_of_run
from .trainer import LibraTrainer


def configured(config_file: str, source: DataSource, opts: Sequence[str]) -> CfgNode:
    """A config on a data set, as train_net.py makes it; seeds the process and sets up loggers.

    Args:
        config_file: as ``--config-file`` of train_net.py.
        source: the data; those that ``DATASETS`` names already, where there is none.
        opts: ``KEY value ...``. Without OUTPUT_DIR among them, results go to a new folder in it.

    Raises:
        ConfigError, DatasetError: what a user can mend, as an OUTPUT_DIR that holds a run.
    """
    setup_logger(name="fvcore")
    setup_logger()
    layers = load_layers(config_file, opts)
    cfg = layers.cfg
    choose_device(cfg, layers.given)
    if "OUTPUT_DIR" not in layers.given:
        cfg.OUTPUT_DIR = free_folder(os.path.join(cfg.OUTPUT_DIR, "measured"))
    elif traces_of_run(cfg.OUTPUT_DIR):
        raise ConfigError(f"OUTPUT_DIR is {cfg.OUTPUT_DIR!r}, which holds a run; give another one")
    print("\n".join(configure_dataset(layers, source, RunOptions())))
    check_together(cfg, layers.source)
    seed_all_rng(None if cfg.SEED < 0 else cfg.SEED)
    return cfg


def collect(cfg: CfgNode, iterations: int) -> str:
    """Train for ``iterations`` from ``MODEL.WEIGHTS`` and measure every one of them.

    The model is neither evaluated nor saved. With weights of a finished training, and a learning
    rate of 0 if it shall stay where it is, this shows the imbalance at the end of that training;
    from scratch, at its beginning.

    Args:
        cfg: with its data set configured; ``ANALYSIS.PERIOD`` is taken as 1.
        iterations: >= 1.

    Returns:
        ``cfg.OUTPUT_DIR``, where a report can be made of it.

    Raises:
        ValueError: ``iterations`` is not positive.
    """
    if iterations < 1:
        raise ValueError(f"--iterations is {iterations}, should be 1 or more")
    cfg = cfg.clone()
    cfg.defrost()
    cfg.ANALYSIS.PERIOD = 1
    cfg.freeze()
    os.makedirs(cfg.OUTPUT_DIR, exist_ok=True)
    with open(os.path.join(cfg.OUTPUT_DIR, "config.yaml"), "w", encoding="utf-8") as f:
        f.write(cfg.dump())
    model = LibraTrainer.build_model(cfg)
    LibraCheckpointer(model, cfg=cfg).load(cfg.MODEL.WEIGHTS, checkpointables=[])
    optimizer = LibraTrainer.build_optimizer(cfg, model)
    trainer = SimpleTrainer(model, LibraTrainer.build_train_loader(cfg), optimizer)
    metrics = JSONWriter(os.path.join(cfg.OUTPUT_DIR, "metrics.json"))
    trainer.register_hooks(
        [
            hooks.IterationTimer(),
            ImbalanceCollector(cfg),
            hooks.LRScheduler(optimizer, build_lr_scheduler(cfg, optimizer)),
            hooks.PeriodicWriter([CommonMetricPrinter(iterations), metrics], period=10),
        ]
    )
    trainer.train(0, iterations)
    return cfg.OUTPUT_DIR
