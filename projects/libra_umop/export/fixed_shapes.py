"""A dense detector as a graph in which no shape depends on the data, for engines that ask for it.

Detectron2 keeps the candidates above a threshold and those that survive non-maximum suppression,
however many these are. Here each level gives its best candidates whatever their score, suppression
picks one detection after the other for as many as the config allows, and what is not a detection
has score 0. The detections are the same.
"""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from detectron2.structures import Boxes, ImageList, Instances
from torch import Tensor, nn

from ..errors import ConfigError
from .verify import Detections, Detector

# A score that no detection has: of what fills a fixed number of places.
FILLING = -1.0


class FixedBatchGraph(nn.Module):
    """Images of one size in, a fixed number of boxes out; no other size or number is taken.

    Args:
        model: a dense detector; put into eval mode here.
        batch: images at once.
        size: (H, W) of each, multiples of what the backbone divides by.

    Raises:
        ConfigError: the model is not a dense one, or ``size`` or its number of detections is none
            that can be fixed.
    """

    input_name = "images"

    def __init__(self, model: nn.Module, *, batch: int, size: tuple[int, int]):
        super().__init__()
        if not isinstance(model, DenseDetector):
            raise ConfigError(
                f"the model is a {type(model).__name__}, should be a dense detector for fixed"
                " shapes (RetinaNet, ATSS, FCOS ...): the regions of a two-stage one are as many"
                " as its data give"
            )
        step = model.backbone.size_divisibility or 1
        if size[0] % step or size[1] % step:
            up = "x".join(str(-(-side // step) * step) for side in size)
            raise ConfigError(
                f"the fixed size is {size[0]}x{size[1]}, should be multiples of {step}, as {up}"
            )
        if model.max_detections_per_image < 1:
            raise ConfigError(
                f"TEST.DETECTIONS_PER_IMAGE is {model.max_detections_per_image}, should be at"
                " least 1 for a fixed number of detections"
            )
        self.model = model
        self.batch, self.size = batch, size
        self.eval()

    def forward(self, images: Tensor) -> Detections:
        """The detections of a batch.

        Args:
            images: (batch, 3, H, W) float32, values 0..255, channels in the order of
                ``INPUT.FORMAT``.

        Returns:
            Boxes (batch, D, 4) as XYXY pixels, scores (batch, D) float32 and classes (batch, D)
            int64, D being ``TEST.DETECTIONS_PER_IMAGE``; by descending score, filled up with
            score 0, class -1 and a box of zeros.
        """
        model = self.model
        with torch.no_grad(), fixed_shapes(model) as kept:
            normalised = (images - model.pixel_mean) / model.pixel_std
            features = model.backbone(normalised)
            features = [features[name] for name in model.head_in_features]
            image_list = ImageList(normalised, [self.size] * self.batch)
            found = model.forward_inference(image_list, features, model.head(features))
            rows = [self._filled(f, scores) for f, scores in zip(found, kept, strict=True)]
        boxes, scores, classes = zip(*rows, strict=True)
        return torch.stack(boxes), torch.stack(scores), torch.stack(classes)

    def _filled(self, found: Instances, scores: Tensor) -> Detections:
        boxes = Boxes(found.pred_boxes.tensor)
        boxes.clip(self.size)
        is_real = (scores > 0) & boxes.nonempty()
        scores, order = (scores * is_real).topk(int(scores.shape[0]))  # what is real comes first
        is_real = scores > 0
        more = self.model.max_detections_per_image - int(scores.shape[0])
        classes = found.pred_classes[order]
        return (
            nn.functional.pad(boxes.tensor[order] * is_real[:, None], (0, 0, 0, more)),
            nn.functional.pad(scores, (0, more)),
            nn.functional.pad(
                classes.where(is_real, torch.full_like(classes, -1)), (0, more), value=-1
            ),
        )

    def dynamic_axes(self) -> dict[str, dict[int, str]]:
        """What may vary, for ``torch.onnx.export``: nothing."""
        return {}

    def example(self, images: list[Tensor]) -> Tensor:
        """An input of these images, (3, H, W) each; the last fills what they leave."""
        return torch.stack([*images, *images[-1:] * self.batch][: self.batch])

    def as_detector(self, run: Detector) -> Detector:
        """A function of one image, (3, H, W); each call takes the next place of the batch."""
        place = -1

        def detect(image: Tensor) -> Detections:
            nonlocal place
            place = (place + 1) % self.batch
            others = image.flip(-1)  # what another place holds may not matter
            images = torch.stack([image if i == place else others for i in range(self.batch)])
            boxes, scores, classes = (output[place] for output in run(images))
            is_real = scores > 0
            return boxes[is_real], scores[is_real], classes[is_real]

        return detect


@contextlib.contextmanager
def fixed_shapes(model: Any) -> Iterator[list[Tensor]]:
    """Within this context a dense detector's post-processing has shapes that no data decide.

    Yields:
        the scores of each image's detections, as they are made: FILLING where there is none.
    """
    kept: list[Tensor] = []

    def nms(boxes: Tensor, scores: Tensor, classes: Tensor, threshold: float) -> Tensor:
        picks, values = pick_best(boxes, scores, classes, threshold, model.max_detections_per_image)
        kept.append(values)
        return picks

    stand_ins = {"batched_nms": nms, "clip_to_image": _clip}
    with contextlib.ExitStack() as stack:
        for module in {sys.modules[c.__module__] for c in type(model).__mro__}:
            for name in stand_ins.keys() & vars(module).keys():
                stack.enter_context(mock.patch.object(module, name, stand_ins[name]))
        methods = {"_decode_per_level_predictions": _decode_level, "_top_candidates": _top}
        for name, method in methods.items():
            if hasattr(model, name):
                bound = method.__get__(model)
                stack.enter_context(mock.patch.object(model, name, bound))
        yield kept


def pick_best(
    boxes: Tensor, scores: Tensor, classes: Tensor, threshold: float, count: int
) -> tuple[Tensor, Tensor]:
    """Greedy non-maximum suppression by class, for a fixed number of picks.

    As :func:`detectron2.layers.batched_nms` cut at ``count``, written out pick by pick.

    Args:
        boxes: (C, 4) XYXY. scores: (C,), below 0 for no candidate. classes: (C,).
        threshold: an IoU above it suppresses.

    Returns:
        Indices of the picks and their scores, (min(count, C),) each, by descending score; a score
        is FILLING from where no candidate is left.
    """
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    places = torch.arange(int(boxes.shape[0]), device=boxes.device)
    nothing = torch.full_like(scores, FILLING)
    left = scores.where(scores > 0, nothing)
    picks, values = [], []
    for _ in range(min(count, int(boxes.shape[0]))):
        value, pick = left.max(dim=0)
        top_left = torch.maximum(boxes[:, :2], boxes[pick, :2])
        bottom_right = torch.minimum(boxes[:, 2:], boxes[pick, 2:])
        overlap = (bottom_right - top_left).clamp(min=0).prod(dim=1)
        iou = overlap / (areas + areas[pick] - overlap)
        is_out = (iou > threshold) & (classes == classes[pick]) | (places == pick)
        left = nothing.where(is_out, left)
        picks.append(pick)
        values.append(value)
    return torch.stack(picks), torch.stack(values)


def _top(self, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The best candidates of a level, (R_l, K), whatever their score; see ``ATSS``'s method."""
    num_classes = int(scores.shape[1])
    best, index = scores.flatten().topk(min(self.test_topk_candidates, scores.numel()))
    best = best.where(best > self.test_score_thresh, torch.full_like(best, FILLING))
    return best, torch.div(index, num_classes, rounding_mode="floor"), index % num_classes


def _decode_level(self, anchors, pred_scores, pred_deltas, score_thresh, topk, image_size):
    """Same interface as the method of :class:`DenseDetector`; the number is fixed."""
    scores, anchor_idxs, classes = _top(self, pred_scores)
    boxes = self.box2box_transform.apply_deltas(
        pred_deltas[anchor_idxs], anchors.tensor[anchor_idxs]
    )
    return Instances(image_size, pred_boxes=Boxes(boxes), scores=scores, pred_classes=classes)


def _clip(instances: Instances) -> Instances:
    """As :func:`clip_to_image`; what lies outside loses its score and keeps its place."""
    boxes = Boxes(instances.pred_boxes.tensor)
    boxes.clip(instances.image_size)
    instances.pred_boxes = boxes
    nothing = torch.full_like(instances.scores, FILLING)
    instances.scores = instances.scores.where(boxes.nonempty(), nothing)
    return instances
