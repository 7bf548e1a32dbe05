"""Training losses on images that are not trained on."""

import contextlib
import copy
import math
from collections.abc import Iterator
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import nn

from ..data.mapper import OwnDatasetMapper
from ..data.shielded_loader import build_test_loader
from ..modeling.dense.losses.normalizers import preserved_normalizers, set_normalizers
from ..utils.rng import preserved_rng, seed_all_rng

# Layers that behave otherwise in training: batch statistics, and whatever drops at random.
_STOCHASTIC = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)


def validation_losses(cfg: CfgNode, model: nn.Module) -> dict[str, float]:
    """Losses over ``DATASETS.TEST``, resized as in testing, as if the set were one batch.

    Dense detectors: the sum over all images, divided by the positives of the set (ATSS's box loss
    by the sum of their weights) and not by training's running average; classification without PFL
    and LRP, whose focus would move the measure with the model. Two-stage detectors divide by the
    regions that they draw in each image: the mean over images, each of which draws from the same
    seed. So the losses depend on weights and images alone, and neither on the number of ranks nor
    on the batch size.

    Batch norm uses its running statistics, nothing is dropped, the model is left as it was, and
    the ranks, which may have unequal numbers of images, meet at the end only.

    Args:
        cfg: of the run.
        model: a detector that returns a dict of losses in training; not wrapped.

    Returns:
        loss name -> loss, and "total_loss"; the same on all ranks, {} without any image.
    """
    images: list[dict[str, tuple[float, float]]] = []
    with _losses_without_learning(model), preserved_rng():
        for name in cfg.DATASETS.TEST:
            for batch in build_test_loader(cfg, name, _mapper(cfg)):
                images += [_image_losses(model, image) for image in batch]
    images = [losses for share in comm.all_gather(images) for losses in share]
    means = {name: _divide([x[name] for x in images]) for name in (images[0] if images else ())}
    return {**means, "total_loss": sum(means.values())} if means else {}


def _divide(terms: list[tuple[float, float]]) -> float:
    """Sum over sum, rounded once, so that the order of the images does not matter."""
    totals, counts = zip(*terms, strict=True)
    return math.fsum(totals) / (math.fsum(counts) or 1.0)


def _image_losses(model: nn.Module, image: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """Name -> loss of one image and what counts in it: over a set both are summed, then divided.

    One by one, as images that are padded to a common size have other losses.
    """
    seed_all_rng(1)
    set_normalizers(model, {})
    with EventStorage() as storage:
        losses = model([image])
    if getattr(model, "returns_sums", False):
        return {name: (float(x.total), float(x.count)) for name, x in losses.items()}
    if isinstance(model, DenseDetector):  # Detectron2's own: what it has divided by is undone
        count = storage.latest()["num_pos_anchors"][0]
        return {name: (float(x) * model.loss_normalizer, count) for name, x in losses.items()}
    return {name: (float(x), 1.0) for name, x in losses.items()}


def _mapper(cfg: CfgNode) -> OwnDatasetMapper:
    """As in testing, and the annotations too."""
    resize = T.ResizeShortestEdge(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)
    return OwnDatasetMapper(cfg, is_train=True, augmentations=[resize])


@contextlib.contextmanager
def _losses_without_learning(model: Any) -> Iterator[None]:
    """Training mode but for stochastic layers; modes, buffers and running means come back."""
    modes = [module.training for module in model.modules()]
    buffers = copy.deepcopy(dict(model.named_buffers()))
    model.train()
    for module in model.modules():
        if isinstance(module, _STOCHASTIC) or type(module).__name__ == "DropPath":
            module.eval()
    if hasattr(model, "returns_sums"):
        model.returns_sums = True
    try:
        with preserved_normalizers(model), torch.no_grad(), torch.jit.optimized_execution(False):
            yield  # TorchScript rounds otherwise once it has optimized
    finally:
        if hasattr(model, "returns_sums"):
            model.returns_sums = False
        for module, mode in zip(model.modules(), modes, strict=True):
            module.training = mode
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
