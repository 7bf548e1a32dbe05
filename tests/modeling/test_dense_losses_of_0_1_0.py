"""The losses of dense detectors are those that version 0.1.0 computed.

files/dense_losses_of_0.1.0.json holds its own numbers: of each setting, the losses of three batches
in a row, in which the normaliser moves; weights are drawn by the name of the parameter.
"""

import json
import zlib
from pathlib import Path

import pytest
import torch
import yaml
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from testing.batches import make_batch, make_input
from testing.dense_models import tiny_cfg

FILE = Path(__file__).with_name("files") / "dense_losses_of_0.1.0.json"
OF_0_1_0 = json.loads(FILE.read_text())


@torch.no_grad()
def fill(model):
    for name, p in model.named_parameters():
        generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        is_norm = p.dim() == 1 and name.endswith(("norm.weight", ".1.weight"))
        scale = 0.05 if p.dim() > 1 else 0.1
        p.copy_(torch.randn(p.shape, generator=generator) * scale + float(is_norm))


@pytest.mark.parametrize("setting", OF_0_1_0)
def test_losses_are_those_of_0_1_0(setting):
    """To the last bit where they were written; 63 settings of detector, box loss and UMOP."""
    name, *opts = setting.split()
    opts[1::2] = [yaml.safe_load(value) for value in opts[1::2]]
    model = build_model(tiny_cfg(name, *opts)).train()
    fill(model)
    batch = make_batch()
    with EventStorage():
        for images, expected in zip(
            (batch, batch[1:], [make_input([], [])]), OF_0_1_0[setting], strict=True
        ):
            losses = {key: loss.item() for key, loss in model(images).items()}
            assert losses == pytest.approx(expected, rel=1e-5, abs=1e-7)
