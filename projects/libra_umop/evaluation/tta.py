"""Test-time augmentation for any detector, by what ``TEST.AUG`` says."""

from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..modeling.tta.dense import DenseDetectorWithTTA, MultiScaleViews
from ..modeling.tta.rcnn import RCNNWithTTA

__all__ = ["build_tta_model"]


def build_tta_model(cfg, model: nn.Module) -> nn.Module:
    """Wrap a detector so that it is tested on the views of ``TEST.AUG``.

    Dense detectors merge the candidates of all views before the final suppression
    (:class:`DenseDetectorWithTTA`), R-CNN merges the detections of each
    (:class:`RCNNWithTTA`); both with a longest side and a range of sizes for each scale.

    Args:
        cfg: a CfgNode; ``TEST.AUG.ENABLED`` is not looked at.
        model: the detector, possibly wrapped for distributed training.

    Returns:
        A model with the same call, for inference.

    Raises:
        ValueError: for ``TEST.AUG`` sizes that do not fit each other, or a value out of range.
    """
    views = MultiScaleViews.from_cfg(cfg)
    inner = model.module if isinstance(model, DistributedDataParallel) else model
    if isinstance(inner, DenseDetector):
        return DenseDetectorWithTTA(cfg, inner, views)
    return RCNNWithTTA(cfg, inner, views)
