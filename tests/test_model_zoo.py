"""MODEL_ZOO.md is true to configs/, and its sizes to the models that the configs build."""

import sys
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model
from fvcore.nn import FlopCountAnalysis

from libra_umop.config.loading import load_config
from testing.shrink import shrink

REPO = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO / "dev"))

import model_zoo  # noqa: E402
from count_operations import DenseForward, count_operations, measure  # noqa: E402

ROWS = model_zoo.read_rows()


def test_every_config_has_a_row_and_every_row_a_config():
    assert sorted(ROWS) == model_zoo.config_names()


def test_page_shows_these_rows():
    page = model_zoo.PAGE.read_text()
    assert model_zoo.render(page, ROWS) == page, "run dev/model_zoo.py"


@pytest.mark.parametrize("name", model_zoo.config_names())
def test_size_of_the_model_is_the_one_in_the_table(name):
    row = ROWS[name]
    assert measure(name) == {"params_m": row.params_m, "gflops": row.gflops}


def shape(value):
    return value.type().sizes()


def deform_conv(inputs, outputs):
    batch, _, height, width = shape(outputs[0])
    return batch * height * width * torch.Size(shape(inputs[1])).numel()


def attention(inputs, outputs):
    *batch, queries, channels = shape(inputs[0])
    keys, out_channels = shape(inputs[2])[-2:]
    return torch.Size(batch).numel() * queries * keys * (channels + out_channels)


@pytest.mark.parametrize(
    "name",
    [
        "COCO-Detection/umop_atss_X_101_64x4d_DCN_FPN_1.5x_ms640-800.yaml",
        "COCO-Detection/umop_atss_Swin_S_FPN_2x_ms480-960.yaml",
        "COCO-Detection/umop_atss_R2_101_26w4s_DCN_FPN_2x_ms480-960.yaml",
        "COCO-Detection/libra_retinanet_R_50_FPN_1x.yaml",
        "COCO-InstanceSegmentation/libra_cascade_mask_rcnn_R_50_FPN_1x.yaml",
    ],
)
def test_operations_are_counted_as_fvcore_counts_them(name):
    """fvcore has no rule for deformable convolutions and fused attention; here are both."""
    cfg = shrink(load_config(str(REPO / "configs" / name)))
    on_cpu = DenseForward(build_model(cfg), 10, 5).eval()
    analysis = FlopCountAnalysis(on_cpu, torch.zeros(1, 3, 64, 96))
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    analysis.set_op_handle("torchvision::deform_conv2d", deform_conv)
    analysis.set_op_handle("aten::scaled_dot_product_attention", attention)
    with torch.no_grad():
        expected = analysis.total()
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        on_meta = DenseForward(build_model(cfg), 10, 5).eval()
    assert count_operations(on_meta, (64, 96)) == expected
