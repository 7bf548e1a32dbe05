"""Libra-UMOP: cures for the five imbalances of detector training, for Detectron2.

This file imports nothing that is slow, so that ``libra_umop.functional`` needs nothing but torch;
the names of its front door are imported when asked for. ``import libra_umop.config.keys`` registers
every backbone, head and meta-architecture.
"""

from .utils.lazy import offer

__version__ = "0.1.0"

__all__, __getattr__, __dir__ = offer(
    __name__,
    {
        "api": "predict train",
        "config.keys": "add_libra_umop_config",
        "config.loading": "get_config load_config",
        "inference.predictor": "LibraPredictor",
        "training.trainer": "LibraTrainer",
    },
)
