"""Running means of loss normalisers, which Detectron2's dense detectors keep beside their buffers.

``DenseDetector._ema_update`` makes them plain numbers of a module, made at the first loss, so that
no ``state_dict`` has them.
"""

import contextlib
from typing import Dict, Iterator

from torch import nn


def get_normalizers(model: nn.Module) -> Dict[str, float]:
    """Dotted name -> value of every running normaliser in ``model``."""
    return {
        f"{module_name}.{name}": value
        for module_name, module in model.named_modules()
        for name, value in vars(module).items()
        if name.endswith("loss_normalizer") and isinstance(value, (int, float))
    }


def set_normalizers(model: nn.Module, values: Dict[str, float]) -> None:
    """Make the running normalisers of ``model`` those of :func:`get_normalizers`, and no others."""
    for name in set(get_normalizers(model)) - set(values):
        module_name, _, attribute = name.rpartition(".")
        delattr(model.get_submodule(module_name), attribute)
    for name, value in values.items():
        module_name, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(module_name), attribute, value)


@contextlib.contextmanager
def preserved_normalizers(model: nn.Module) -> Iterator[None]:
    """Losses that are computed inside do not change the running normalisers."""
    values = get_normalizers(model)
    try:
        yield
    finally:
        set_normalizers(model, values)
