"""Files of fixed shapes against the model, in every place of a batch."""

import numpy as np
import pytest
import torch

CONFIG = "configs/COCO-Detection/{}_R_50_FPN_1x.yaml"
DENSE = ["libra_retinanet", "umop_retinanet", "atss", "umop_atss", "umop_fcos", "gfl"]
TWO_STAGE = ["libra_faster_rcnn", "libra_cascade_rcnn", "faster_rcnn"]


@pytest.fixture
def exported(tool, checkpoint, tmp_path, capsys):
    def run(detector, *args):
        weights = checkpoint(CONFIG.format(detector))
        file = tmp_path / "d.onnx"
        form = [] if "--format" in args else ["--format", "onnx"]
        argv = ["--weights", str(weights), "--output", str(file), *form, *args]
        argv += ["--opts", "TEST.DETECTIONS_PER_IMAGE", "12"]  # each pick is a part of the graph
        try:
            code = tool("export").main(argv)
        except SystemExit as e:
            code = e.code
        return code, file, capsys.readouterr()

    return run


@pytest.mark.parametrize("detector", [*DENSE, *TWO_STAGE])
def test_a_batch_detects_what_the_model_detects_in_each_image(exported, detector):
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    code, file, printed = exported(detector, "--fixed", "96x128", "--batch", "2")
    assert code == 0, printed.err
    lines = printed.out.splitlines()
    assert len(lines) == 4 and all(" 0 unmatched" in line for line in lines[:2])
    assert lines[2] == "operators whose shapes follow the data: none"
    assert all(int(line.split(": ")[1].split()[0]) > 0 for line in lines[:2])

    model = onnx.load(str(file))
    kinds = {node.op_type for node in model.graph.node}
    assert not kinds & {"NonZero", "If", "Loop", "Scan", "NonMaxSuppression", "Compress"}
    values = onnx.shape_inference.infer_shapes(model).graph.value_info
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in values}
    found = [ranks[node.input[0]] for node in model.graph.node if node.op_type == "ArgMax"]
    assert min(found) > 1, "TensorRT refuses a maximum along the only axis"
    shapes = {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes["images"] == [2, 3, 96, 128] and shapes["boxes"] == [2, 12, 4]
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 96, 128)).astype(np.float32)
    boxes, scores, classes = session.run(["boxes", "scores", "classes"], {"images": images})
    filled = scores == 0
    assert (classes[filled] == -1).all() and (boxes[filled] == 0).all()
    assert (classes[~filled] >= 0).all() and (np.diff(scores, axis=1) <= 0).all()


@pytest.mark.parametrize("detector", [*DENSE, *TWO_STAGE])
def test_tensorrt_reads_the_file(exported, detector):
    """Its ONNX parser needs no GPU, but for ROIAlign, whose plugin asks for the driver."""
    tensorrt = pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is absent")
    code, file, printed = exported(detector, "--fixed", "96x128", "--batch", "2")
    assert code == 0, printed.err
    builder = tensorrt.Builder(tensorrt.Logger(tensorrt.Logger.ERROR))
    network = builder.create_network(0)
    parser = tensorrt.OnnxParser(network, builder.logger)
    if parser.parse(file.read_bytes()):
        names = [network.get_output(i).name for i in range(network.num_outputs)]
        assert names == ["boxes", "scores", "classes"]
    else:
        errors = [parser.get_error(i) for i in range(parser.num_errors)]
        assert detector in TWO_STAGE and [e.node_operator() for e in errors] == ["RoiAlign"]


def test_a_torchscript_file_is_fixed_too(exported):
    """Of VFNet, whose deformable convolution ONNX does not have."""
    args = ["--format", "torchscript", "--fixed", "96x128", "--batch", "2"]
    code, file, printed = exported("vfnet", *args)
    assert code == 0 and printed.out.count(" 0 unmatched") == 2, printed
    boxes, scores, classes = torch.jit.load(str(file))(torch.rand(2, 3, 96, 128) * 255)
    assert boxes.shape == (2, 12, 4) and scores.shape == classes.shape == (2, 12)


@pytest.mark.parametrize(
    "detector, args, word",
    [
        ("atss", ["--fixed", "96x100"], "as 96x128"),
        ("atss", ["--batch", "2"], "--fixed HxW"),
        ("atss", ["--fixed", "96x128", "--sizes", "96x128"], "--sizes goes without"),
    ],
)
def test_what_cannot_be_fixed_is_refused_in_a_line(exported, detector, args, word):
    code, file, printed = exported(detector, *args)
    assert code == 2 and word in printed.err.splitlines()[-1] and not file.exists()
