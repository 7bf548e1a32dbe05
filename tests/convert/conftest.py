"""Configs of the other implementation's tiny models, and checkpoints converted to them once."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model

from libra_umop.config.loading import load_config
from libra_umop.convert.run import convert_from
from libra_umop.utils.safe_load import safe_torch_load

SMALL = ["MODEL.WEIGHTS", ""]
SMALL += ["MODEL.DEVICE", "cpu", "MODEL.FPN.OUT_CHANNELS", "32", "MODEL.ROI_BOX_HEAD.FC_DIM", "64"]
SMALL += ["MODEL.RESNETS.STEM_OUT_CHANNELS", "8", "MODEL.RESNETS.WIDTH_PER_GROUP", "8"]
SMALL += ["MODEL.RESNETS.RES2_OUT_CHANNELS", "32", "MODEL.ROI_HEADS.NUM_CLASSES", "5"]
SMALL += ["MODEL.RETINANET.NUM_CLASSES", "5", "MODEL.ATSS.NUM_CLASSES", "5"]
NO_RELU = ["MODEL.FPN.P7_RELU", "False"]
PEERS = {  # name of a config: name of the fixture, overrides
    "libra_faster_rcnn_R_50_FPN_1x": ("libra_faster_rcnn", []),
    "libra_retinanet_R_50_FPN_1x": ("libra_retinanet", []),
    "retinanet_R_50_FPN_1x": ("retinanet", NO_RELU),
    "umop_retinanet_R_50_FPN_1x": ("retinanet", []),
    "atss_R_50_FPN_1x": ("atss", []),
    "umop_atss_R_50_FPN_1x": ("atss", []),
    "gfl_R_50_FPN_1x": ("gfl", []),
    "umop_gfl_R_50_FPN_1x": ("gfl", []),
    "vfnet_R_50_FPN_1x": ("vfnet", []),
    "umop_vfnet_R_50_FPN_1x": ("vfnet", []),
}


class Converted(NamedTuple):
    """A converted peer model, what it came from, and the peer's own numbers."""

    name: str
    model: torch.nn.Module
    expected: dict
    source: str
    output: str
    config_file: str
    opts: list


@pytest.fixture(scope="session")
def convert_peer(peer, repo, tmp_path_factory):
    """A function from a config's name to the peer's model converted to it."""
    done = {}

    def convert(name):
        if name not in done:
            fixture, opts = PEERS[name]
            source = str(peer / f"{fixture}_mmdet.pth")
            output = str(tmp_path_factory.mktemp("convert") / f"{name}.pth")
            config_file = str(repo / "configs" / "COCO-Detection" / f"{name}.yaml")
            convert_from(source, config_file, output, SMALL + opts)
            model = build_model(load_config(config_file, SMALL + opts)).eval()
            missing = model.load_state_dict(safe_torch_load(output)["model"], strict=False)
            assert missing.unexpected_keys == []
            assert set(missing.missing_keys) <= {"loss_normalizer.average"}
            expected = dict(np.load(peer / f"{fixture}_outputs.npz"))
            expected = {k: torch.from_numpy(v) for k, v in expected.items()}
            done[name] = Converted(name, model, expected, source, output, config_file, SMALL + opts)
        return done[name]

    return convert
