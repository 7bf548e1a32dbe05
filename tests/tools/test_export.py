"""Exported files against the model itself, at sizes they were not traced at."""

import itertools
import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch

from libra_umop.export import exporter
from libra_umop.export.detector_graph import DetectorGraph
from libra_umop.export.verify import compare, sample_image
from libra_umop.inference.predictor import LibraPredictor

onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime (extra export) is absent")

CONFIG = "configs/COCO-Detection/{}_R_50_FPN_1x.yaml"
DETECTORS = ["libra_faster_rcnn", "libra_retinanet", "umop_retinanet", "atss", "gfl"]
SIZES = ["--sizes", "96x128", "130x90"]


@pytest.fixture
def export(tool, checkpoint, capsys):
    """Runs the tool on a tiny checkpoint; gives exit code, stdout and stderr."""

    def run(detector, *args, checkpoint_opts=()):
        weights = checkpoint(CONFIG.format(detector), *checkpoint_opts)
        try:
            code = tool("export").main(["--weights", str(weights), *SIZES, *map(str, args)])
        except SystemExit as e:
            code = e.code
        return code, *capsys.readouterr()

    return run


@pytest.mark.parametrize(
    "detector, format",
    [*itertools.product(DETECTORS, ["torchscript", "onnx"]), ("vfnet", "torchscript")],
)
def test_the_file_detects_what_the_model_detects(export, checkpoint, tmp_path, detector, format):
    file = tmp_path / "detector"
    code, out, err = export(detector, "--format", format, "--output", file)
    assert code == 0, err
    assert "96x128" in out and "130x90" in out

    predictor = LibraPredictor.from_weights(str(checkpoint(CONFIG.format(detector))), device="cpu")
    image = sample_image((171, 67), seed=7)
    expected = DetectorGraph(predictor.model)(image)
    found = exporter.load_exported(file, format)(image)
    agreement = compare(expected, found, size=(171, 67), max_detections=100)
    assert agreement.num_boxes > 5 and agreement.num_unmatched == 0
    if format == "torchscript":
        assert agreement.box_error_px == agreement.score_error == 0
    assert metadata_of(file, format) == {
        "class_names": ["circle", "square", "star"],
        "input_format": predictor.cfg.INPUT.FORMAT,
        "min_size": 96,
        "max_size": 192,
        "size_divisibility": 32,
        "detections_per_image": 100,
        "meta_architecture": predictor.cfg.MODEL.META_ARCHITECTURE,
    }


def metadata_of(file, format):
    if format == "torchscript":
        extra = {exporter.METADATA_FILE: ""}
        torch.jit.load(str(file), _extra_files=extra)
        return json.loads(extra[exporter.METADATA_FILE])
    properties = onnxruntime.InferenceSession(str(file)).get_modelmeta().custom_metadata_map
    return {key: json.loads(value) for key, value in properties.items()}


def test_the_example_finds_what_the_predictor_finds(export, checkpoint, repo, tmp_path):
    file, photo = tmp_path / "detector.onnx", tmp_path / "photo.png"
    assert export("atss", "--format", "onnx", "--output", file)[0] == 0
    image = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
    image = cv2.resize(image, (200, 120), interpolation=cv2.INTER_NEAREST)
    cv2.imwrite(str(photo), image)

    command = [sys.executable, repo / "examples" / "onnx_inference.py", file, photo]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    predictor = LibraPredictor.from_weights(str(checkpoint(CONFIG.format("atss"))), device="cpu")
    instances = predictor(image)["instances"]
    found = [line.split() for line in lines]
    names = predictor.class_names
    agreement = compare(
        (instances.pred_boxes.tensor, instances.scores, instances.pred_classes),
        (
            torch.tensor([[float(v) for v in row[2:]] for row in found]),
            torch.tensor([float(row[1]) for row in found]),
            torch.tensor([names.index(row[0]) for row in found]),
        ),
        size=(120, 200),
        max_detections=100,
    )
    assert agreement.num_boxes > 5 and agreement.num_unmatched == 0


@pytest.mark.parametrize("format", ["torchscript", "onnx"])
def test_a_file_that_detects_otherwise_is_not_left(export, tmp_path, monkeypatch, format):
    """The exported detector is made to miss by a fifth of a pixel."""
    load = exporter.load_exported

    def shifted(file, format):
        detect = load(file, format)
        return lambda image: (detect(image)[0] + 0.2, *detect(image)[1:])

    monkeypatch.setattr(exporter, "load_exported", shifted)
    file = tmp_path / "detector"
    file.write_text("an older export")
    code, _, err = export("umop_retinanet", "--format", format, "--output", file)
    assert code == 2 and "does not give the model's detections at 96x128" in err
    assert [p.name for p in tmp_path.iterdir()] == ["detector"]
    assert file.read_text() == "an older export"


def test_a_model_that_detects_nothing_is_compared_at_a_lower_threshold(export, tmp_path):
    file = tmp_path / "detector"
    opts = ("MODEL.RETINANET.SCORE_THRESH_TEST", "0.9999999")
    code, out, err = export(
        "umop_retinanet", "--format", "torchscript", "--output", file, "--opts", *opts
    )
    assert code == 0, err
    assert " 0 boxes" not in out.splitlines()[0]
    boxes, scores, classes = exporter.load_exported(file, "torchscript")(sample_image((96, 128)))
    assert boxes.shape == (0, 4) and len(scores) == len(classes) == 0


@pytest.mark.parametrize("config", ["retinanet_R_101_DCN_FPN_1.5x_ms640-800", "vfnet_R_50_FPN_1x"])
def test_what_onnx_cannot_hold_is_named_in_one_line(config, tool, checkpoint, tmp_path, capfd):
    weights = checkpoint(f"configs/COCO-Detection/{config}.yaml")
    file = tmp_path / "detector.onnx"
    argv = ["--weights", str(weights), "--format", "onnx", "--output", str(file), *SIZES]
    with pytest.raises(SystemExit) as e:
        tool("export").main(argv)
    out, err = capfd.readouterr()
    assert e.value.code == 2 and not list(tmp_path.iterdir())
    assert "deform_conv2d" in err and "torchscript" in err
    assert "%" not in out + err  # no dump of the graph


def test_masks_are_refused_by_name(tool, repo, tmp_path, capsys, checkpoint):
    weights = checkpoint("configs/COCO-InstanceSegmentation/libra_mask_rcnn_R_50_FPN_1x.yaml")
    with pytest.raises(SystemExit) as e:
        tool("export").main(["--weights", str(weights), "--format", "onnx"])
    assert e.value.code == 2 and "MODEL.MASK_ON" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["--format", "tensorrt"], ["--format", "onnx", "--sizes", "800"]]
)
def test_a_wrong_command_line_exits_with_2(export, arguments):
    code, _, err = export("atss", *arguments)
    assert code == 2 and arguments[-1] in err
