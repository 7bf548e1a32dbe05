"""benchmarks/bm_inference.py: every form of a detector gives a row, with the ratio of its times."""

import re

import cv2
import numpy as np
import pytest

from libra_umop.export.verify import sample_image
from libra_umop.inference.predictor import LibraPredictor
from testing.scripts import load_script

CONFIG = "configs/COCO-Detection/{}_R_50_FPN_1x.yaml"
SIZE = (96, 128)


@pytest.fixture
def bm():
    """The script as a module."""
    pytest.importorskip("onnxruntime", reason="onnxruntime (extra export) is absent")
    return load_script("benchmarks/bm_inference.py")


def test_every_form_is_a_row_of_what_it_took(bm, checkpoint, tmp_path, capsys):
    picture = tmp_path / "a.png"
    cv2.imwrite(str(picture), np.random.RandomState(0).randint(0, 255, (50, 60, 3), np.uint8))
    weights = checkpoint(CONFIG.format("libra_faster_rcnn"))
    argv = ["--weights", weights, "--size", "96x128", "--iters", 1, "--threads", 1]
    bm.main([str(x) for x in [*argv, "--image", picture]])
    out = capsys.readouterr().out
    rows = dict(re.findall(r"^\| ([A-Z]\w+(?: Runtime)?|eager) \| (.*) \|$", out, re.M))
    expected = ["eager", "TorchScript", "ONNX Runtime"]
    if "OpenVINO is left out: pip install openvino" not in out:
        expected.append("OpenVINO")
    assert list(rows) == expected
    eager = [float(x) for x in rows["eager"].split(" | ")[:4]]
    assert eager[1] == eager[3] == 1
    for row in rows.values():
        wall, ratio, cpu, cpu_ratio = (float(x) for x in row.split(" | ")[:4])
        assert ratio == pytest.approx(wall / eager[0], abs=0.01 + 2 / eager[0])
        assert cpu_ratio == pytest.approx(cpu / eager[2], abs=0.01 + 2 / eager[2])
    assert rows["TorchScript"].endswith(rows["eager"].split(" | ")[-1])  # bit-equal


def test_a_picture_comes_in_the_size_and_in_the_colours_of_the_model(bm, tmp_path):
    picture = tmp_path / "a.png"
    cv2.imwrite(str(picture), np.full((90, 70, 3), (10, 20, 30), np.uint8))  # BGR
    args = bm.build_parser().parse_args(
        ["--weights", "w", "--size", "40x32", "--image", str(picture)]
    )
    for input_format, expected in (("BGR", [10, 20, 30]), ("RGB", [30, 20, 10])):
        image = bm.image_of(args, input_format)
        assert image.shape == (3, 40, 32) and image[:, 0, 0].tolist() == expected
    args.image = tmp_path / "none.png"
    with pytest.raises(SystemExit, match="--image is .*none.png"):
        bm.image_of(args, "BGR")


def test_openvino_detects_what_eager_detects(bm, checkpoint):
    pytest.importorskip("openvino", reason="openvino (pip install openvino) is absent")
    predictor = LibraPredictor.from_weights(str(checkpoint(CONFIG.format("atss"))), device="cpu")
    forms, image = bm.forms_of(predictor, SIZE, threads=1), sample_image(SIZE)
    ours, expected = forms["OpenVINO"](image), forms["eager"](image)
    assert len(expected[0]) > 5 and ours[0].shape == expected[0].shape
    assert (ours[0] - expected[0]).abs().max() < 0.1
