"""A detector as a graph in which no shape depends on the data, for engines that ask for it.

Detectron2 keeps the candidates above a threshold and those that survive non-maximum suppression,
however many these are. Here each level gives its best candidates whatever their score, suppression
picks one detection after the other for as many as the config allows, and what is not a detection
has score 0. The detections are the same. What a second stage needs is in ``fixed_regions``.
"""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from detectron2.modeling.proposal_generator.rpn import RPN
from detectron2.modeling.roi_heads import FastRCNNOutputLayers
from detectron2.structures import Boxes, ImageList, Instances
from torch import Tensor, nn

from ..errors import ConfigError
from .fixed_regions import fixed_regions
from .suppression import FILLING, pick_best
from .verify import Detections, Detector


class FixedBatchGraph(nn.Module):
    """Images of one size in, a fixed number of boxes out; no other size or number is taken.

    Args:
        model: a dense or a two-stage detector; put into eval mode here.
        batch: images at once.
        size: (H, W) of each, multiples of what the backbone divides by.

    Raises:
        ConfigError: the model is another one, or ``size`` or its number of detections is none
            that can be fixed.
    """

    input_name = "images"

    def __init__(self, model: Any, *, batch: int, size: tuple[int, int]):
        super().__init__()
        self.model = model
        self.batch, self.size = batch, size
        self.num_detections = _num_detections(model)
        step = model.backbone.size_divisibility or 1
        if size[0] % step or size[1] % step:
            up = "x".join(str(-(-side // step) * step) for side in size)
            raise ConfigError(
                f"the fixed size is {size[0]}x{size[1]}, should be multiples of {step}, as {up}"
            )
        if self.num_detections < 1:
            raise ConfigError(
                f"TEST.DETECTIONS_PER_IMAGE is {self.num_detections}, should be at"
                " least 1 for a fixed number of detections"
            )
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
        model: Any = self.model
        with torch.no_grad():
            normalised = (images - model.pixel_mean) / model.pixel_std
            image_list = ImageList(normalised, [self.size] * self.batch)
            detect = _detect_dense if isinstance(model, DenseDetector) else _detect_in_regions
            found, kept = detect(model, image_list, model.backbone(normalised))
            rows = [self._filled(f, scores) for f, scores in zip(found, kept, strict=True)]
        boxes, scores, classes = zip(*rows, strict=True)
        return torch.stack(boxes), torch.stack(scores), torch.stack(classes)

    def _filled(self, found: Instances, scores: Tensor) -> Detections:
        boxes = Boxes(found.pred_boxes.tensor)
        boxes.clip(self.size)
        is_real = (scores > 0) & boxes.nonempty()
        scores, order = (scores * is_real).topk(int(scores.shape[0]))  # what is real comes first
        is_real = scores > 0
        more = self.num_detections - int(scores.shape[0])
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


def _num_detections(model: Any) -> int:
    """TEST.DETECTIONS_PER_IMAGE, where a model keeps it."""
    if isinstance(model, DenseDetector):
        return model.max_detections_per_image
    if isinstance(model, GeneralizedRCNN) and isinstance(model.proposal_generator, RPN):
        predictor = getattr(model.roi_heads, "box_predictor", None)
        predictor = predictor[-1] if isinstance(predictor, nn.ModuleList) else predictor
        if isinstance(predictor, FastRCNNOutputLayers):
            return predictor.test_topk_per_image
    raise ConfigError(
        f"the model is a {type(model).__name__}, should be a dense detector (RetinaNet, ATSS, FCOS"
        " ...) or a two-stage one with a region proposal network for fixed shapes"
    )


def _detect_dense(
    model: Any, images: ImageList, features: dict[str, Tensor]
) -> tuple[list[Instances], list[Tensor]]:
    """The detections of each image and their scores, FILLING where there is none."""
    maps = [features[name] for name in model.head_in_features]
    with fixed_shapes(model) as kept:
        return model.forward_inference(images, maps, model.head(maps)), kept


def _detect_in_regions(
    model: Any, images: ImageList, features: dict[str, Tensor]
) -> tuple[list[Instances], list[Tensor]]:
    """As :func:`_detect_dense`, of a two-stage detector."""
    with fixed_regions():
        proposals, _ = model.proposal_generator(images, features)
        found, _ = model.roi_heads(images, features, proposals)
    return found, [instances.scores for instances in found]


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
