"""A detector on a network of timm without a network: where weights follow, nothing is fetched."""

import sys

import cv2
import pytest
import torch

from libra_umop.benchmark.bench import Bench, Contender
from libra_umop.benchmark.inputs import Workload
from libra_umop.inference.predictor import LibraPredictor
from libra_umop.training.checkpoint.run_content import read_run
from libra_umop.training.measuring_run import collect
from test_train_net import RETINANET, run, write_config, write_dataset

timm = pytest.importorskip("timm", reason="timm is not installed")

TIMM = {
    **RETINANET,
    "MODEL": {
        **RETINANET["MODEL"],
        "BACKBONE": {"NAME": "build_retinanet_fpn_backbone", "FREEZE_AT": 0},
        "RESNETS": {"NORM": "BN"},
        "FPN": {
            "IN_FEATURES": ["res3", "res4", "res5"],
            "OUT_CHANNELS": 32,
            "BOTTOM_UP": "build_timm_backbone",
        },
        "TIMM": {"NAME": "mobilenetv3_small_050"},
    },
}
QUICK = ["SOLVER.MAX_ITER", 1, "SOLVER.STEPS", "()", "SOLVER.WARMUP_ITERS", 0]
QUICK += ["SOLVER.CHECKPOINT_PERIOD", 1]


class Offline(Exception):
    """Somebody wanted pretrained weights."""


@pytest.fixture(scope="module")
def run_of_pretrained(tmp_path_factory):
    """Data, config and OUTPUT_DIR of a run that began from weights which are gone now."""
    folder = tmp_path_factory.mktemp("timm")
    data = write_dataset(folder / "data")
    config = write_config(folder / "c.yaml", TIMM)
    weights = folder / "imagenet.pth"
    torch.save(timm.create_model("mobilenetv3_small_050").state_dict(), weights)
    args = ["--config-file", config, "--dataset", data, "OUTPUT_DIR", folder / "out", *QUICK]
    args += ["MODEL.TIMM.WEIGHTS", weights, "MODEL.TIMM.PRETRAINED", True]
    assert run(*args) == 0
    weights.unlink()
    return data, args, folder / "out"


@pytest.fixture(autouse=True)
def offline(run_of_pretrained, monkeypatch):
    """timm cannot load any pretrained weights."""

    def refuse(*args, **kwargs):
        raise Offline

    monkeypatch.setattr(sys.modules["timm.models._builder"], "load_pretrained", refuse)


def test_without_weights_that_follow_they_are_wanted(run_of_pretrained, tmp_path):
    _, args, _ = run_of_pretrained
    with pytest.raises(Offline):
        run(*args, "OUTPUT_DIR", tmp_path, "MODEL.TIMM.WEIGHTS", "")


def test_predicting(run_of_pretrained):
    """As tools/predict.py, tools/export.py and tools/contact_sheet.py make their predictor."""
    data, _, out = run_of_pretrained
    predictor = LibraPredictor.from_weights(str(out / "model_final.pth"), device="cpu")
    image = cv2.imread(str(next((data / "images").iterdir())))
    assert predictor(image)["instances"].image_size == image.shape[:2]
    assert predictor.cfg.MODEL.TIMM.PRETRAINED, "the config stays what it was"


@pytest.mark.parametrize("way", ["resume", "eval-only", "eval-only resume", "from weights"])
def test_train_net(way, run_of_pretrained, tmp_path):
    _, args, out = run_of_pretrained
    copy = tmp_path / "out"
    copy.mkdir()
    for name in ("model_0000000.pth", "last_checkpoint"):
        (copy / name).write_bytes((out / name).read_bytes())
    keys = ["OUTPUT_DIR", copy, "SOLVER.MAX_ITER", 2]
    if "resume" not in way:
        keys = ["OUTPUT_DIR", tmp_path / "new", "MODEL.WEIGHTS", out / "model_final.pth"]
    flags = [f"--{flag}" for flag in way.split() if flag in ("resume", "eval-only")]
    assert run(*args[:4], *flags, *args[4:], *keys) == 0
    if way == "resume":
        assert (copy / "model_0000001.pth").is_file()


def test_benchmarking(run_of_pretrained):
    _, args, _ = run_of_pretrained
    opts = ("MODEL.TIMM.PRETRAINED", "True", "MODEL.TIMM.WEIGHTS", "/nowhere.pth")
    Bench(Contender("timm", str(args[1]), opts), Workload((64, 96))).inference()


def test_measuring_imbalance(run_of_pretrained, tmp_path):
    """As tools/report.py --config-file does."""
    _, _, out = run_of_pretrained
    cfg, _ = read_run(str(out / "model_final.pth"))
    cfg.MODEL.WEIGHTS, cfg.OUTPUT_DIR = str(out / "model_final.pth"), str(tmp_path)
    assert collect(cfg, 1) == str(tmp_path)
