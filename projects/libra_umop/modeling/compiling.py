"""``MODEL.COMPILE``: what of a detector goes through ``torch.compile``, and how."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from types import MethodType
from typing import Any

import torch
from detectron2.structures import ImageList
from torch import nn
from torch.fx.experimental import _config as symbolic_shapes_config

from .backbones.bfp import BFP
from .dense.detector import DenseLosses

__all__ = ["BACKEND", "compile_parts", "eager"]

BACKEND = "inductor"
# Of a BFP the pyramid inside: to pool to a size known at run time compiles anew for each size.
_MODULES = ("backbone.pyramid", "backbone", "head", "proposal_generator.rpn_head")
# What has neither ranks nor the event storage in it, which would break the graph.
_LOSSES = ("classification_loss", "box_losses")


def compile_parts(model: nn.Module) -> None:
    """Put what works on whole feature maps through ``torch.compile``, in place.

    These are the backbone, the convolutional heads, and the losses of a dense detector of this
    project, a graph each; the lists of images and boxes between them would only break one. Sizes
    are symbols in them, so that images of other sizes hardly compile anew (docs/train.md); the
    weights go to channels-last memory, which that takes. The names of the weights stay, and so does
    what a copy of the model computes.

    Args:
        model: a detector, not wrapped for several processes.

    Raises:
        ValueError: there is no C++ compiler, as the first step would find out after a minute.
    """
    if BACKEND == "inductor":
        _refuse_without_compiler()
    # Sides that happen to be equal at the first images would be taken to be so always.
    symbolic_shapes_config.use_duck_shape = False
    torch._dynamo.config.specialize_float = True  # the numbers of a loss do not change
    options: dict[str, Any] = {"dynamic": True, "backend": BACKEND}
    if BACKEND == "inductor":
        # Else it takes the memory order of a convolution's gradients, and with it the sizes, to be
        # those of the first images. What is traced has to have the same order, or it does so again.
        options["options"] = {"force_layout_optimization": True}
    model.to(memory_format=torch.channels_last)
    model.preprocess_image = MethodType(_preprocess_image, model)  # type: ignore[assignment]
    modules = dict(model.named_modules())
    for name in _MODULES:
        if name in modules and not (name == "backbone" and isinstance(modules[name], BFP)):
            modules[name].compile(**options)
    if isinstance(model, DenseLosses):
        for name in _LOSSES:
            compiled = torch.compile(getattr(type(model), name), **options)
            setattr(model, name, MethodType(compiled, model))  # which a copy binds to itself


@contextlib.contextmanager
def eager() -> Iterator[None]:
    """While it lasts, nothing runs as ``torch.compile`` made it.

    For what happens once in a while, such as an evaluation: else the sizes, batches and modes of it
    would be compiled for, too.
    """
    with torch.compiler.set_stance("force_eager"):
        yield


def _preprocess_image(model: Any, batched_inputs: list[dict[str, Any]]) -> ImageList:
    images = type(model).preprocess_image(model, batched_inputs)
    images.tensor = images.tensor.contiguous(memory_format=torch.channels_last)
    return images


def _refuse_without_compiler() -> None:
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++", "c++", "cl"]
    if not any(shutil.which(name) for name in names):
        raise ValueError(
            f"MODEL.COMPILE is True, which needs a C++ compiler: no {' or '.join(names)} is on PATH"
        )
