"""Measuring the imbalance of a config on a data set in a few iterations, without a full run."""

import logging
import os

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.engine import SimpleTrainer, hooks
from detectron2.solver import build_lr_scheduler
from detectron2.utils.events import CommonMetricPrinter, JSONWriter

from .collect import ImbalanceCollector
from .trainer import LibraTrainer

logger = logging.getLogger(__name__)


def collect(cfg: CfgNode, iterations: int) -> str:
    """Train for ``iterations`` from ``MODEL.WEIGHTS`` and measure every one of them.

    The model is neither evaluated nor saved. With weights of a finished training, and a learning
    rate of 0 if it shall stay where it is, this shows the imbalance at the end of that training; from
    scratch, at its beginning.

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
    DetectionCheckpointer(model).load(cfg.MODEL.WEIGHTS)
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
