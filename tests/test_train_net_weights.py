"""train_net.py with weights that are not those of its model and data: one line, exit code 2."""

import json
import shutil

import pytest
import torch

from libra_umop.training.trainer import LibraTrainer
from test_train_net import RETINANET, refused, run, write_config, write_dataset

QUICK = ["SOLVER.MAX_ITER", 1, "SOLVER.STEPS", "()", "SOLVER.WARMUP_ITERS", 0]
QUICK += ["SOLVER.CHECKPOINT_PERIOD", 1]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("weights") / "two")


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """Config and OUTPUT_DIR of a run of one iteration."""
    folder = tmp_path_factory.mktemp("trained")
    config = write_config(folder / "c.yaml", RETINANET)
    args = ["--config-file", config, "--dataset", data, *QUICK, "OUTPUT_DIR", folder / "out"]
    assert run(*args) == 0
    return config, folder / "out"


@pytest.fixture
def changed(data, tmp_path):
    """A copy of the data whose categories were given to a function."""

    def copy(change):
        shutil.copytree(data, tmp_path / "changed")
        for file in (tmp_path / "changed" / "annotations").glob("*.json"):
            content = json.loads(file.read_text())
            change(content["categories"])
            file.write_text(json.dumps(content))
        return tmp_path / "changed"

    return copy


def third_class(categories):
    categories.append({"id": 3, "name": "blue"})


def names_swapped(categories):
    one, two = categories
    one["name"], two["name"] = two["name"], one["name"]


CHANGES = [
    (third_class, "it knows 2 classes, the data has 3"),
    (names_swapped, "label 0 is 'red' (category id 1) in it, 'green' (category id 1) in the data"),
]


@pytest.mark.parametrize("change, said", CHANGES)
def test_evaluating_on_other_classes_is_refused(change, said, trained, changed, capsys, tmp_path):
    config, out = trained
    args = ["--config-file", config, "--dataset", changed(change), "--eval-only"]
    weights = out / "model_final.pth"
    line = refused(capsys, *args, "OUTPUT_DIR", tmp_path / "o", "MODEL.WEIGHTS", weights)
    assert said in line and str(weights) in line


@pytest.mark.parametrize("change, said", CHANGES)
def test_resuming_on_other_classes_is_refused(change, said, trained, changed, capsys, tmp_path):
    config, out = trained
    shutil.copytree(out, tmp_path / "out")
    args = ["--config-file", config, "--dataset", changed(change), "--resume"]
    line = refused(capsys, *args, *QUICK, "SOLVER.MAX_ITER", 2, "OUTPUT_DIR", tmp_path / "out")
    assert said in line and "--resume goes on with the same model and classes" in line


@pytest.mark.parametrize(
    "keys, said",
    [
        (["SOLVER.OPTIMIZER", "AdamW"], "its optimizer has ['momentum']"),
        (["MODEL.RETINANET.NUM_CONVS", 2], "head.cls_subnet.2.weight is missing in the file"),
        (["MODEL.BACKBONE.FREEZE_AT", 2], "parameter group"),
    ],
)
def test_resuming_another_model_or_optimizer_is_refused(
    keys, said, trained, data, capsys, tmp_path
):
    config, out = trained
    shutil.copytree(out, tmp_path / "out")
    args = ["--config-file", config, "--dataset", data, "--resume", *QUICK, *keys]
    line = refused(capsys, *args, "SOLVER.MAX_ITER", 2, "OUTPUT_DIR", tmp_path / "out")
    assert said in line and "another OUTPUT_DIR" in line


@pytest.mark.parametrize(
    "content, said",
    [
        (None, "MODEL.WEIGHTS is ''"),
        ("torchvision", "nothing of it fits the model"),
        ("backbone", "head.cls_subnet.0.weight is missing in the file"),
        ("80 classes", "(another number of classes): head.cls_score.weight is"),
    ],
)
def test_evaluating_what_is_no_detector_is_refused(content, said, trained, data, capsys, tmp_path):
    config, out = trained
    weights = tmp_path / "w.pth"
    state = torch.load(out / "model_final.pth", weights_only=True)["model"]
    if content == "torchvision":
        torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, weights)
    elif content == "backbone":
        state = {k: v for k, v in state.items() if not k.startswith("head.")}
        torch.save({"model": state}, weights)
    elif content == "80 classes":  # their names are not known
        state["head.cls_score.weight"] = state["head.cls_score.weight"].repeat(40, 1, 1, 1)
        torch.save({"model": state}, weights)
    args = ["--config-file", config, "--dataset", data, "--eval-only"]
    weights = weights if content else ""
    line = refused(capsys, *args, "OUTPUT_DIR", tmp_path / "o", "MODEL.WEIGHTS", weights)
    assert said in line


def test_training_from_what_does_not_fit_at_all_is_refused(trained, data, capsys, tmp_path):
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / "resnet.pth")
    args = ["--config-file", trained[0], "--dataset", data, *QUICK, "OUTPUT_DIR", tmp_path / "o"]
    line = refused(capsys, *args, "MODEL.WEIGHTS", tmp_path / "resnet.pth")
    assert "nothing of it fits" in line and "tools/convert_checkpoint.py" in line


def test_an_average_that_is_switched_on_at_a_resume_is_evaluated_as_loaded(
    trained, data, monkeypatch, tmp_path
):
    """An evaluation that is due at the resume comes before any step."""
    evaluated = []

    def test(cls, cfg, model):
        evaluated.append({k: v.clone() for k, v in model.state_dict().items()})
        return {}

    monkeypatch.setattr(LibraTrainer, "test", classmethod(test))
    config, out = trained
    shutil.copytree(out, tmp_path / "out")
    for name in ("model_final.pth", "last_checkpoint"):
        (tmp_path / "out" / name).unlink()
    args = ["--config-file", config, "--dataset", data, *QUICK, "OUTPUT_DIR", tmp_path / "out"]
    args += ["SOLVER.EMA.ENABLED", True, "TEST.EVAL_PERIOD", 1, "SOLVER.MAX_ITER", 2]
    assert run(*args[:4], "--resume", *args[4:]) == 0
    stored = torch.load(out / "model_0000000.pth", weights_only=True)["model"]
    assert len(evaluated) == 2
    assert all(torch.equal(evaluated[0][name], tensor) for name, tensor in stored.items())
    assert not all(torch.equal(evaluated[1][name], tensor) for name, tensor in stored.items())
