"""Training losses on images that are not trained on."""

import contextlib
import copy
from collections import defaultdict
from typing import Dict, Iterator

import torch
from detectron2.config import CfgNode
from detectron2.data import build_detection_test_loader
from detectron2.data import transforms as T
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import nn

from ..data.mapper import OwnDatasetMapper
from ..engine.normalizers import preserved_normalizers
from ..engine.rng import preserved_rng, seed_all_rng

# Layers that behave otherwise in training: batch statistics, and whatever drops at random.
_STOCHASTIC = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)


def validation_losses(cfg: CfgNode, model: nn.Module) -> Dict[str, float]:
    """Mean losses per image over ``DATASETS.TEST``, resized as in testing.

    Samplers draw from the same seed at every call. Batch norm uses its running statistics, nothing
    is dropped, and the model is left as it was.

    Args:
        cfg: of the run.
        model: a detector that returns a dict of losses in training.

    Returns:
        loss name -> mean, and "total_loss"; the same on all ranks, {} without any image.
    """
    sums: Dict[str, float] = defaultdict(float)
    images = 0
    with _losses_without_learning(model), preserved_rng(), EventStorage():
        seed_all_rng(comm.get_rank())
        for name in cfg.DATASETS.TEST:
            for batch in build_detection_test_loader(cfg, name, mapper=_mapper(cfg)):
                for key, value in model(batch).items():
                    sums[key] += float(value) * len(batch)
                images += len(batch)
    shares = comm.all_gather((images, dict(sums)))
    images = sum(share[0] for share in shares)
    names = sorted({key for share in shares for key in share[1]})
    means = {key: sum(share[1].get(key, 0.0) for share in shares) / images for key in names}
    return {**means, "total_loss": sum(means.values())} if means else {}


def _mapper(cfg: CfgNode) -> OwnDatasetMapper:
    """As in testing, and the annotations too."""
    resize = T.ResizeShortestEdge(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)
    return OwnDatasetMapper(cfg, is_train=True, augmentations=[resize])


@contextlib.contextmanager
def _losses_without_learning(model: nn.Module) -> Iterator[None]:
    """Training mode but for stochastic layers; modes, buffers and running means come back."""
    modes = [module.training for module in model.modules()]
    buffers = copy.deepcopy(dict(model.named_buffers()))
    model.train()
    for module in model.modules():
        if isinstance(module, _STOCHASTIC) or type(module).__name__ == "DropPath":
            module.eval()
    try:
        with preserved_normalizers(model), torch.no_grad(), torch.jit.optimized_execution(False):
            yield  # TorchScript rounds otherwise once it has optimized
    finally:
        for module, mode in zip(model.modules(), modes):
            module.training = mode
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
