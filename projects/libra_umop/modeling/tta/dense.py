"""Multi-scale and flip testing for dense detectors; Detectron2's own serves R-CNN only."""

import copy
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any

import numpy as np
import torch
from detectron2.data.detection_utils import read_image
from detectron2.modeling import DatasetMapperTTA
from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from detectron2.structures import Boxes, Instances
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from .view_merging import ViewMerging, in_scale_range

__all__ = ["DenseDetectorWithTTA", "MultiScaleViews"]


class MultiScaleViews:
    """Views of an image for test-time augmentation, with a longest side for each scale.

    The published multi-scale tests limit the longest side of each scale by itself (shorter sides
    800, 900, 1000, 1200 with longest sides 1200, 1300, 1500, 1600); ``TEST.AUG.MAX_SIZE`` is one
    limit for all. Serves :class:`GeneralizedRCNNWithTTA` as ``tta_mapper`` just as well.

    Args:
        min_sizes: shorter side of each scale, in pixels.
        max_sizes: longest side of each scale, in pixels.
        flip: add the mirrored view of each scale.
        scale_ranges: of each scale, the sizes of objects that it is for, see
            :func:`in_scale_range`; empty: all scales are for all.

    Raises:
        ValueError: if there is no scale, or not one longest side or range for each.
    """

    def __init__(
        self,
        *,
        min_sizes: Sequence[int],
        max_sizes: Sequence[int],
        flip: bool,
        scale_ranges: Sequence[tuple[float, float]] = (),
    ):
        if len(min_sizes) == 0 or len(min_sizes) != len(max_sizes):
            raise ValueError(
                f"MIN_SIZES and MAX_SIZES of TEST.AUG are {tuple(min_sizes)} and"
                f" {tuple(max_sizes)}, should be one or more, and as many"
            )
        if scale_ranges and len(scale_ranges) != len(min_sizes):
            raise ValueError(
                f"TEST.AUG.SCALE_RANGES is {tuple(scale_ranges)}, should be empty or one pair for"
                f" each of MIN_SIZES {tuple(min_sizes)}"
            )
        self._ranges = [{"scale_range": x} for x in scale_ranges] or [{}] * len(min_sizes)
        self._mappers = [
            DatasetMapperTTA([min_size], max_size, flip)
            for min_size, max_size in zip(min_sizes, max_sizes, strict=True)
        ]

    @classmethod
    def from_cfg(cls, cfg) -> "MultiScaleViews":
        """From ``TEST.AUG``; empty ``MAX_SIZES`` is ``MAX_SIZE`` for every scale."""
        min_sizes = list(cfg.TEST.AUG.MIN_SIZES)
        max_sizes = list(cfg.TEST.AUG.MAX_SIZES) or [cfg.TEST.AUG.MAX_SIZE] * len(min_sizes)
        return cls(
            min_sizes=min_sizes,
            max_sizes=max_sizes,
            flip=cfg.TEST.AUG.FLIP,
            scale_ranges=cfg.TEST.AUG.SCALE_RANGES,
        )

    def __call__(self, dataset_dict: dict) -> list[dict]:
        """Same interface as :meth:`DatasetMapperTTA.__call__`; each scale has its longest side."""
        return [
            {**view, **scale_range}
            for mapper, scale_range in zip(self._mappers, self._ranges, strict=True)
            for view in mapper(dataset_dict)
        ]


class DenseDetectorWithTTA(nn.Module):
    """A :class:`DenseDetector` tested on several views of each image.

    The candidates of all views, still overlapping, are brought back into the frame of the original
    image and go through one suppression (:class:`ViewMerging`) with the model's own threshold.
    Works for Detectron2's RetinaNet and FCOS, and for every dense detector of this project. Same
    interface as :class:`detectron2.modeling.GeneralizedRCNNWithTTA`.

    Args:
        cfg: read for ``TEST.AUG`` if there is no ``tta_mapper``.
        model: the detector, possibly wrapped for distributed training.
        tta_mapper: takes a dataset dict and returns its views, each with "transforms".

    Raises:
        ValueError: if the model is not a dense detector.
    """

    def __init__(self, cfg, model: nn.Module, tta_mapper: Callable | None = None):
        super().__init__()
        if isinstance(model, DistributedDataParallel):
            model = model.module
        if not isinstance(model, DenseDetector):
            raise ValueError(
                f"model is a {type(model).__name__}, should be a DenseDetector for TTA of views"
            )
        self.model = model
        self.tta_mapper = tta_mapper or MultiScaleViews.from_cfg(cfg)
        self.merging = ViewMerging.from_cfg(cfg)
        self.input_format = cfg.INPUT.FORMAT

    def __call__(self, batched_inputs: list[dict]) -> list[dict]:
        """The detections of each image, merged over its views.

        Args:
            batched_inputs: as for :meth:`DenseDetector.forward`; "file_name" may stand in for
                "image".

        Returns:
            A dict with "instances" for each image, boxes in pixels of its "height" and "width".
        """
        return [{"instances": self._inference_one_image(x)} for x in batched_inputs]

    @torch.no_grad()
    def _inference_one_image(self, dataset_dict: dict) -> Instances:
        dataset_dict = self._with_image(dataset_dict)
        image_size = (dataset_dict["height"], dataset_dict["width"])
        views = self.tta_mapper(dataset_dict)
        # Equal sizes go through the network together, so that no view is padded by another.
        merged: list[Instances] = []
        for _, same_size in groupby(views, key=lambda view: view["image"].shape):
            group = list(same_size)
            for view, candidates in zip(group, self._candidates(group), strict=True):
                candidates = in_scale_range(candidates, view)
                merged.append(_to_original(candidates, view["transforms"], image_size))
        pred = Instances.cat(merged)
        pred.pred_boxes.clip(image_size)
        pred = pred[pred.pred_boxes.nonempty()]
        return self.merging(pred, self.model.test_nms_thresh, self.model.max_detections_per_image)

    def _with_image(self, dataset_dict: dict) -> dict:
        dataset_dict = copy.copy(dataset_dict)
        if "image" not in dataset_dict:
            image = read_image(dataset_dict["file_name"], self.input_format)
            image = np.ascontiguousarray(image.transpose(2, 0, 1))
            dataset_dict["image"] = torch.from_numpy(image)  # (3, H, W)
        dataset_dict.setdefault("height", dataset_dict["image"].shape[1])
        dataset_dict.setdefault("width", dataset_dict["image"].shape[2])
        return dataset_dict

    def _candidates(self, views: list[dict]) -> list[Instances]:
        """All candidates above the score threshold of each view, in pixels of the view."""
        images = self.model.preprocess_image(views)
        features = self.model.backbone(images.tensor)
        features = [features[f] for f in self.model.head_in_features]
        with _without_nms(self.model):
            return self.model.forward_inference(images, features, self.model.head(features))


@contextmanager
def _without_nms(model: Any):
    """Within this context the detector keeps every candidate: none overlaps by more than 1."""
    before = model.test_nms_thresh, model.max_detections_per_image
    model.test_nms_thresh, model.max_detections_per_image = 1.0, None
    try:
        yield
    finally:
        model.test_nms_thresh, model.max_detections_per_image = before


def _to_original(candidates: Instances, transforms, image_size) -> Instances:
    """Candidates of a view in the frame of the original image."""
    boxes = candidates.pred_boxes.tensor
    original = transforms.inverse().apply_box(boxes.cpu().numpy())
    return Instances(
        image_size,
        pred_boxes=Boxes(torch.as_tensor(original, dtype=boxes.dtype, device=boxes.device)),
        scores=candidates.scores,
        pred_classes=candidates.pred_classes,
    )
