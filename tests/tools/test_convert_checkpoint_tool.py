"""The command line of the converter."""

import pytest
import torch

from testing.scripts import load_script

FILES = ("retinanet_mmdet.pth", "libra_retinanet_R_50_FPN_1x.yaml")
SMALL = "MODEL.FPN.OUT_CHANNELS 32 MODEL.RETINANET.NUM_CLASSES 5 MODEL.RESNETS.STEM_OUT_CHANNELS 8"
SMALL += " MODEL.RESNETS.WIDTH_PER_GROUP 8 MODEL.RESNETS.RES2_OUT_CHANNELS 32"
SMALL += " MODEL.BACKBONE.NAME build_retinanet_fpn_backbone MODEL.DEVICE cpu"


@pytest.fixture
def tool():
    return load_script("tools/convert_checkpoint.py")


def test_there_and_back_with_overrides_after_the_options(tool, peer, repo, tmp_path, capsys):
    config = str(repo / "configs" / "COCO-Detection" / FILES[1])
    here, there = str(tmp_path / "runs" / "here.pth"), str(tmp_path / "there.pth")
    opts = SMALL.split()
    tool.main([str(peer / FILES[0]), "--config-file", config, "--output", here, *opts])
    assert capsys.readouterr().out.startswith(f"{here}: ")
    tool.main([here, "--config-file", config, "--output", there, "--to", "mmdet", *opts])
    assert torch.load(there, weights_only=True)["meta"]["CLASSES"] == tuple("abcde")


def test_contradiction_is_one_line_and_exit_code_2(tool, peer, repo, tmp_path, capsys):
    config = str(repo / "configs" / "COCO-Detection" / FILES[1])
    output = tmp_path / "here.pth"
    args = [str(peer / FILES[0]), "--config-file", config, "--output", str(output)]
    with pytest.raises(SystemExit) as e:
        tool.main([*args, *SMALL.split(), "MODEL.FPN.P7_RELU", "True"])
    assert e.value.code == 2 and not output.exists()
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "MODEL.FPN.P7_RELU False" in err
