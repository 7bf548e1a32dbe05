"""From a predictor to a TorchScript or ONNX file that was compared with it."""

import contextlib
import io
import json
import os
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from ..errors import ConfigError
from ..inference.predictor import LibraPredictor
from . import DEFAULT_OPSET, FORMATS
from .detector_graph import OUTPUT_NAMES, DetectorGraph
from .fixed_shapes import FixedBatchGraph
from .onnx_symbolics import dynamic_resizing
from .verify import Agreement, Detections, Detector, sample_image, verify

METADATA_FILE = "metadata.json"
# What torch says of the two ways of exporting that can hold a detector, and of constants in them.
_TRACING_WARNINGS = (
    r"`torch\.jit\.",
    "You are using the legacy TorchScript-based ONNX export",
    "The feature will be removed",
    "torch.meshgrid: in an upcoming release",
    "Exporting aten::index operator of advanced indexing",
    "Constant folding - Only steps=1",
)


# Operators whose outputs' shapes, or whose being run at all, the data decide.
_SHAPES_OF_DATA = {"NonZero", "If", "Loop", "Scan", "NonMaxSuppression", "Unique", "Compress"}

Graph = DetectorGraph | FixedBatchGraph


class ExportError(ConfigError):
    """A model that a format cannot hold, or an exported file that does not give its detections."""


def export_detector(
    predictor: LibraPredictor,
    file: Path,
    *,
    format: str,
    sizes: Sequence[tuple[int, int]],
    opset: int = DEFAULT_OPSET,
    batch: int = 0,
) -> list[Agreement]:
    """Export a detector, run the file beside the model, and keep it only if they agree.

    The file takes one image of any size; see :class:`DetectorGraph` for inputs and outputs. On
    images of all ``sizes`` its boxes have to be within 0.1 px and its scores within 1e-3 of the
    model's. If the model detects nothing on them at its score threshold, a copy with a threshold
    that some detections clear is compared in its place, as agreeing on nothing proves nothing.

    Args:
        predictor: on the CPU, without test-time augmentation.
        file: what to write; an existing file is replaced only by one that agrees.
        format: "torchscript" or "onnx".
        sizes: (H, W) of the images; the graph is traced at the first.
        opset: of ONNX.

        batch: images of the file's one fixed shape, see :class:`FixedBatchGraph`; 0 for a file
            that takes one image of any size. A batch has one size, and is compared with as many
            images.

    Returns:
        One agreement per image.

    Raises:
        ValueError: ``format`` is unknown or ``sizes`` is empty.
        ExportError: the model cannot be exported, or the file does not agree; nothing is left.
    """
    if format not in FORMATS:
        raise ValueError(f"format is {format!r}, should be one of {FORMATS}")
    if not sizes:
        raise ValueError("sizes is empty; the graph is traced and compared at one size at least")
    reference = DetectorGraph(predictor.model)
    graph: Graph = reference
    if batch:
        (size,) = sizes
        graph, sizes = FixedBatchGraph(predictor.model, batch=batch, size=size), [size] * batch
    _refuse_masks(predictor)
    images = [sample_image(size, seed) for seed, size in enumerate(sizes)]
    partial = file.with_name(f".{file.name}.partial")
    partial.parent.mkdir(parents=True, exist_ok=True)
    try:
        values = metadata_of(predictor)
        if batch:
            values |= {"fixed_size": list(size), "batch": batch}
        write = _Writer(graph, partial, format, opset, graph.example(images), values)
        agreements = _agreements(predictor, reference, write, images)
        bad = [a for a in agreements if a.num_unmatched]
        if bad:
            raise ExportError(f"the {format} file does not give the model's detections at {bad[0]}")
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)
    return agreements


def metadata_of(predictor: LibraPredictor) -> dict[str, Any]:
    """What a user of the file needs beside it; stored in it, each value as JSON.

    ``class_names`` (list), ``input_format`` (channel order, "BGR" or "RGB"), ``min_size`` and
    ``max_size`` (pixels: scale the photo so that its shorter side is ``min_size``, or its longer
    ``max_size`` if it would exceed that; ``min_size`` 0: do not scale), ``size_divisibility`` (the
    graph pads to it by itself), ``detections_per_image``, ``meta_architecture``.
    """
    cfg = predictor.cfg
    return {
        "class_names": predictor.class_names,
        "input_format": cfg.INPUT.FORMAT,
        "min_size": cfg.INPUT.MIN_SIZE_TEST,
        "max_size": cfg.INPUT.MAX_SIZE_TEST,
        "size_divisibility": predictor.model.backbone.size_divisibility,
        "detections_per_image": cfg.TEST.DETECTIONS_PER_IMAGE,
        "meta_architecture": cfg.MODEL.META_ARCHITECTURE,
    }


def load_exported(file: Path, format: str) -> Detector:
    """An exported file as a function from its input to its detections.

    The input is an image, (3, H, W) float32; of a file of fixed shapes a batch of them.
    """
    if format == "torchscript":
        module = torch.jit.load(str(file))
        return lambda image: module(image)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])

    def detect(image: Tensor) -> Detections:
        name = session.get_inputs()[0].name
        outputs = session.run(list(OUTPUT_NAMES), {name: image.numpy()})
        boxes, scores, classes = map(torch.from_numpy, outputs)
        return boxes, scores, classes

    return detect


class _Writer:
    """Writes a graph to a file, and gives the file back as a detector."""

    def __init__(self, graph, file, format, opset, image, metadata):
        self._graph = graph
        self._file = file
        self._format = format
        self._opset = opset
        self._image = image
        self._metadata = metadata

    def __call__(self) -> Detector:
        with warnings.catch_warnings():
            # Tracing warns of each branch on a shape; the comparison at other sizes is the check.
            warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
            for message in _TRACING_WARNINGS:
                warnings.filterwarnings("ignore", message=message)
            if self._format == "torchscript":
                self._write_torchscript()
            else:
                self._write_onnx()
        return self._graph.as_detector(load_exported(self._file, self._format))

    def _write_torchscript(self) -> None:
        traced = torch.jit.trace(self._graph, (self._image,), check_trace=False)
        extra = {METADATA_FILE: json.dumps(self._metadata)}
        buffer = io.BytesIO()  # on a full disk, writing to a file would abort the process
        torch.jit.save(traced, buffer, _extra_files=extra)
        self._file.write_bytes(buffer.getbuffer())

    def _write_onnx(self) -> None:
        try:
            import onnx
            import onnxruntime  # noqa: F401  (before minutes are spent on exporting)
        except ImportError as e:
            raise ExportError(f"{e}: ONNX export needs pip install -e '.[export]'") from e
        try:
            # A failed export logs its whole graph, thousands of lines.
            with dynamic_resizing(self._opset), mock.patch("torch._C._jit_onnx_log", create=True):
                torch.onnx.export(
                    self._graph,
                    (self._image,),
                    str(self._file),
                    dynamo=False,
                    opset_version=self._opset,
                    input_names=[self._graph.input_name],
                    output_names=list(OUTPUT_NAMES),
                    dynamic_axes=self._graph.dynamic_axes(),
                )
        except torch.onnx.errors.OnnxExporterError as e:
            first = str(e).strip().splitlines()[0]
            raise ExportError(f"ONNX cannot hold this model: {first}; try torchscript") from e
        model = onnx.load(str(self._file))
        if not self._graph.dynamic_axes():
            _refuse_shapes_of_data(model)
            for output, found in zip(model.graph.output, self._graph(self._image), strict=True):
                for dim, length in zip(output.type.tensor_type.shape.dim, found.shape, strict=True):
                    dim.dim_value = length  # which the exporter does not know of every one
        values = {key: json.dumps(value) for key, value in self._metadata.items()}
        onnx.helper.set_model_props(model, values)
        onnx.save(model, str(self._file))


def shapes_of_data(file: Path) -> dict[str, int]:
    """How many operators of an ONNX file, by name, have shapes or a being run that data decide."""
    import onnx

    return _shapes_of_data(onnx.load(str(file), load_external_data=False).graph)


def _shapes_of_data(graph: Any) -> dict[str, int]:
    counts = Counter(node.op_type for node in graph.node if node.op_type in _SHAPES_OF_DATA)
    inner = [a.g for node in graph.node for a in node.attribute if a.HasField("g")]
    return dict(sum(map(Counter, map(_shapes_of_data, inner)), counts))


def _refuse_shapes_of_data(model: Any) -> None:
    """Of an ONNX graph that promises fixed shapes."""
    found = _shapes_of_data(model.graph)
    if found:
        raise ExportError(
            f"shapes of {', '.join(sorted(found))} follow the data; leave --fixed out"
        )


def _agreements(predictor, graph, write, images) -> list[Agreement]:
    limits = {"max_detections": predictor.cfg.TEST.DETECTIONS_PER_IMAGE}
    threshold = max((value for _, _, value in _thresholds_of(predictor.model)), default=0.0)
    agreements = verify(graph, write(), images, score_threshold=threshold, **limits)
    if any(a.num_boxes for a in agreements):
        return agreements
    with _score_threshold(predictor.model, 0.0):
        threshold = _in_widest_gap(graph(images[0])[1])
    with _score_threshold(predictor.model, threshold):
        agreements = verify(graph, write(), images, score_threshold=0.0, **limits)
    write()  # the file with the threshold of the model
    return agreements


def _in_widest_gap(scores: Tensor) -> float:
    """A threshold that some detections clear, and none by chance: in the widest gap of the top."""
    top = scores[:20]
    if len(top) < 2:
        return 0.0
    i = int((top[:-1] - top[1:])[len(top) // 2 - 1 :].argmax()) + len(top) // 2 - 1
    return float(top[i] + top[i + 1]) / 2


def _thresholds_of(model: torch.nn.Module) -> list[tuple[torch.nn.Module, str, float]]:
    """Every part of a model that has a score threshold, with its name there and its value."""
    return [
        (module, name, getattr(module, name))
        for module in model.modules()
        for name in ("test_score_thresh", "score_thresh")
        if isinstance(getattr(module, name, None), float)
    ]


@contextlib.contextmanager
def _score_threshold(model: torch.nn.Module, value: float):
    """Within this context the model's score thresholds are ``value``."""
    places = _thresholds_of(model)
    for module, name, _ in places:
        setattr(module, name, value)
    try:
        yield
    finally:
        for module, name, old in places:
            setattr(module, name, old)


def _refuse_masks(predictor: LibraPredictor) -> None:
    model = predictor.cfg.MODEL
    if model.MASK_ON or model.KEYPOINT_ON:
        raise ExportError(
            "masks and keypoints are not exported; MODEL.MASK_ON False MODEL.KEYPOINT_ON False "
            "exports the boxes of this model"
        )
