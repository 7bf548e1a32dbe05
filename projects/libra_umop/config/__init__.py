"""Keys, their ranges, and reading configs without running anything in them."""

from importlib import import_module
from typing import Any

from ..utils import needs_detectron2  # noqa: F401

__all__ = ["add_libra_umop_config", "check_config", "load_config"]

_ROOMS = {"add_libra_umop_config": "keys", "check_config": "checks", "load_config": "loading"}


def __getattr__(name: str) -> Any:
    """Import what is asked for: the keys register every component, which takes seconds."""
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)
