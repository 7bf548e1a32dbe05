"""Pooling and interpolation in ONNX at sizes that the graph was not traced at, against PyTorch."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime (extra export) is absent")

from libra_umop.export.onnx_symbolics import dynamic_resizing  # noqa: E402

OPSET = 17


class ResizeToSecond(nn.Module):
    """Brings the first map to the size of the second, up or down."""

    def __init__(self, resize):
        super().__init__()
        self.resize = resize

    def forward(self, x, like):
        return self.resize(x, like.shape[-2:]) + 0 * like[:, :1]


def adaptive_max_pool(x, size):
    return F.adaptive_max_pool2d(x, size)


def nearest(x, size):
    return F.interpolate(x, size=size, mode="nearest")


def session_of(module, example, path):
    dynamic = {name: {2: f"{name}_h", 3: f"{name}_w"} for name in ("x", "like")}
    with dynamic_resizing(OPSET):
        torch.onnx.export(
            module.eval(), example, str(path), dynamo=False, opset_version=OPSET,
            input_names=["x", "like"], dynamic_axes=dynamic,
        )  # fmt: skip
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("resize", [adaptive_max_pool, nearest])
def test_every_pair_of_sizes_gives_the_pixels_of_pytorch(resize, tmp_path):
    module = ResizeToSecond(resize)
    example = (torch.randn(1, 2, 16, 16), torch.zeros(1, 1, 4, 4))
    session = session_of(module, example, tmp_path / "m")
    for n in range(1, 25):
        for m in (1, 2, 3, 5, 7, n, 2 * n - 1, 4 * n - 3):
            if resize is adaptive_max_pool and m > n:
                continue
            x, like = torch.randn(1, 2, n, n + 3), torch.zeros(1, 1, m, m + 1)
            (output,) = session.run(None, {"x": x.numpy(), "like": like.numpy()})
            assert torch.equal(torch.from_numpy(output), module(x, like)), (n, m)


def test_a_whole_scale_factor_gives_the_pixels_of_pytorch(tmp_path):
    class Double(nn.Module):
        def forward(self, x):
            return F.interpolate(x, scale_factor=2.0, mode="nearest")

    with dynamic_resizing(OPSET):
        torch.onnx.export(
            Double(), (torch.randn(1, 2, 4, 6),), str(tmp_path / "m"), dynamo=False,
            opset_version=OPSET, input_names=["x"], dynamic_axes={"x": {2: "h", 3: "w"}},
        )  # fmt: skip
    session = onnxruntime.InferenceSession(str(tmp_path / "m"))
    x = torch.randn(1, 2, 5, 9)
    assert torch.equal(torch.from_numpy(session.run(None, {"x": x.numpy()})[0]), Double()(x))


def test_the_exporter_has_its_own_symbolics_back_afterwards(tmp_path):
    """Its own pooling refuses sizes that are computed in the graph."""
    module = ResizeToSecond(adaptive_max_pool)
    example = (torch.randn(1, 2, 16, 16), torch.zeros(1, 1, 4, 4))
    session_of(module, example, tmp_path / "m")
    with pytest.raises(torch.onnx.errors.OnnxExporterError, match="adaptive"):
        torch.onnx.export(
            module, example, str(tmp_path / "m2"), dynamo=False, opset_version=OPSET,
            input_names=["x", "like"], dynamic_axes={"x": {2: "h"}, "like": {2: "h2"}},
        )  # fmt: skip
