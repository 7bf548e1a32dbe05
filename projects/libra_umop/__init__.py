"""Libra-UMOP: cures for the four imbalances of detector training, for Detectron2.

This file imports nothing by itself, so that ``libra_umop.functional`` needs nothing but torch; the
names of its front door are imported when asked for. ``import libra_umop.config.keys`` registers
every backbone, head and meta-architecture.
"""

__version__ = "0.1.0"

__all__ = [
    "LibraPredictor",
    "LibraTrainer",
    "add_libra_umop_config",
    "get_config",
    "load_config",
    "predict",
    "train",
]

_FRONT_DOOR = {
    "LibraPredictor": "inference.predictor",
    "LibraTrainer": "training.trainer",
    "add_libra_umop_config": "config.keys",
    "get_config": "config.loading",
    "load_config": "config.loading",
    "predict": "api",
    "train": "api",
}


def __getattr__(name: str):
    """Import what is asked for, and not before: torch alone takes seconds."""
    if name not in _FRONT_DOOR:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_FRONT_DOOR[name]}"), name)


def __dir__():
    return sorted({*globals(), *__all__})
