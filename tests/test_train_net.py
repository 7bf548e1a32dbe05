"""train_net.py as a command: what it says, its exit codes, and a whole run."""

import json
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import train_net  # noqa: E402

from libra_umop.training.checkpoint.run_content import read_run  # noqa: E402
from libra_umop.training.words import CONFIG  # noqa: E402
from testing.engine_runs import RETINANET, write_config, write_dataset  # noqa: E402


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("train_net") / "shapes2")


def run(*args):
    return train_net.run([str(arg) for arg in args])


def refused(capsys, *args) -> str:
    """The one line on stderr of a command that ends with exit code 2."""
    with pytest.raises(SystemExit) as info:
        run(*args)
    assert info.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    lines = [line for line in lines if line.startswith(("ConfigError: ", "DatasetError: "))]
    assert len(lines) == 1, lines
    return lines[0]


def test_without_arguments_it_says_what_to_type(capsys):
    assert run() == 2
    out = capsys.readouterr().out
    assert "python train_net.py --config-file" in out and "--dataset DIR" in out
    assert Path(HERE.parent, CONFIG).is_file()


def test_it_is_short():
    assert len((HERE.parent / "train_net.py").read_text().splitlines()) <= 110


def test_misspelt_key_is_one_line(capsys):
    line = refused(capsys, "SOLVER.BASE_LRR", 1)
    assert line.startswith("ConfigError: command line: no key is named SOLVER.BASE_LRR;")
    assert line.endswith("did you mean SOLVER.BASE_LR?")


def test_dataset_that_is_not_there_is_one_line(capsys, tmp_path):
    config = write_config(tmp_path / "c.yaml", RETINANET)
    line = refused(
        capsys, "--config-file", config, "--dataset", tmp_path / "nix", "OUTPUT_DIR", tmp_path
    )
    assert line.startswith("DatasetError: ") and "nix" in line


def test_weights_that_are_not_there_are_one_line(capsys, tmp_path, data):
    config = write_config(tmp_path / "c.yaml", RETINANET)
    args = ["--config-file", config, "--dataset", data, "OUTPUT_DIR", tmp_path / "out"]
    line = refused(capsys, *args, "MODEL.WEIGHTS", "/nix/R-50.pkl")
    assert "MODEL.WEIGHTS is '/nix/R-50.pkl': no such file" in line and 'MODEL.WEIGHTS ""' in line


def test_a_value_that_a_component_refuses_is_one_line(capsys, tmp_path, data):
    config = write_config(tmp_path / "c.yaml", RETINANET)
    args = ["--config-file", config, "--dataset", data, "OUTPUT_DIR", tmp_path / "out"]
    line = refused(
        capsys,
        *args,
        "MODEL.META_ARCHITECTURE",
        "ATSS",
        "MODEL.ANCHOR_GENERATOR.SIZES",
        "[[8, 9], [16, 17], [32, 33], [64, 65], [128, 129]]",
    )
    assert "MODEL.ANCHOR_GENERATOR are [6, 6, 6, 6, 6], should be 1 on each level for ATSS" in line


def test_batch_that_cannot_be_shared_is_one_line(capsys, tmp_path, data):
    config = write_config(tmp_path / "c.yaml", RETINANET)
    args = ["--config-file", config, "--dataset", data, "OUTPUT_DIR", tmp_path / "out"]
    line = refused(capsys, *args, "SOLVER.GRADIENT_ACCUMULATION", 3)
    assert "SOLVER.IMS_PER_BATCH is 2" in line and "SOLVER.GRADIENT_ACCUMULATION 3" in line


def test_training_evaluating_and_what_the_checkpoint_tells(tmp_path, data, capsys):
    """All metrics that are off by default, averaged weights, clipping, in one run."""
    config = write_config(tmp_path / "c.yaml", RETINANET)
    args = ["--config-file", config, "--dataset", data]
    out = tmp_path / "out"
    keys = ["OUTPUT_DIR", out, "SOLVER.MAX_ITER", 3, "SOLVER.STEPS", "()"]
    keys += ["TEST.VAL_LOSS.ENABLED", True, "TEST.OPERATING_POINT.ENABLED", True]
    keys += ["TEST.OPERATING_POINT.SCORE_THRESH", 0.01, "MODEL.RETINANET.SCORE_THRESH_TEST", 0.001]
    keys += ["SOLVER.EMA.ENABLED", True]
    keys += ["SOLVER.CLIP_GRADIENTS.ENABLED", True, "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "full_model"]
    assert run(*args, *keys) == 0
    lines = [json.loads(line) for line in (out / "metrics.json").read_text().splitlines()]
    metrics = {key: value for line in lines for key, value in line.items()}
    wanted = {"bbox/AP", "bbox/precision@0.01", "bbox/recall@0.01", "bbox/F1@0.01", "grad_norm"}
    wanted |= {"val/total_loss", "val/loss_cls", "val/loss_box_reg", "total_loss"}
    assert wanted <= metrics.keys()
    cfg, names = read_run(str(out / "model_final.pth"))
    assert names == ["red", "green"] and cfg.MODEL.RETINANET.NUM_CLASSES == 2
    assert {"model", "training_model", "trainer"} <= set(_keys(out / "model_final.pth"))
    capsys.readouterr()
    assert run(*args, "--eval-only", *keys, "MODEL.WEIGHTS", out / "model_final.pth") == 0
    evaluated = capsys.readouterr().out
    assert f"{metrics['bbox/AP']:.4f}" in evaluated.replace("\n", " ")


def test_device_is_the_cpu_where_there_is_no_cuda_and_said_in_one_line(monkeypatch):
    import torch

    from libra_umop.config.devices import choose_device
    from libra_umop.config.loading import load_config

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    cfg = load_config("")
    assert choose_device(cfg) == "MODEL.DEVICE is cpu, as there is no CUDA device"
    assert cfg.MODEL.DEVICE == "cpu" and choose_device(cfg) == ""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device(cfg) == "" and cfg.MODEL.DEVICE == "cpu"
    assert choose_device(load_config("")) == ""


def _keys(path):
    import torch

    return torch.load(path, weights_only=True).keys()
