"""Detectron2's DefaultTrainer with COCO evaluation."""

import importlib.util
import os

from detectron2.engine import DefaultTrainer
from detectron2.evaluation import COCOEvaluator


class LibraTrainer(DefaultTrainer):
    """Same interface as :class:`detectron2.engine.DefaultTrainer`."""

    @classmethod
    def build_evaluator(cls, cfg, dataset_name):
        """COCO's metrics of ``dataset_name``; detections go to ``OUTPUT_DIR/inference``."""
        return COCOEvaluator(dataset_name, output_dir=os.path.join(cfg.OUTPUT_DIR, "inference"))

    @classmethod
    def build_optimizer(cls, cfg, model):
        """The optimizer that ``SOLVER`` describes."""
        if importlib.util.find_spec("libra_umop.engine.optimizer"):
            from .optimizer import build_optimizer

            return build_optimizer(cfg, model)
        return super().build_optimizer(cfg, model)
