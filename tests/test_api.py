"""``libra_umop.train`` and ``predict``: the commands' own runs, given back as objects."""

import json
import os
import signal

import cv2
import numpy as np
import pytest
import torch
import yaml

import libra_umop
from libra_umop.cli.commands.train import main
from libra_umop.errors import ConfigError, DatasetError
from testing.engine_runs import DETECTING, write_config, write_dataset

KEYS = {"SOLVER.IMS_PER_BATCH": 2, "TEST.EVAL_PERIOD": 0, "SEED": 1}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("api") / "shapes_api")


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return write_config(tmp_path_factory.mktemp("c") / "c.yaml", DETECTING)


@pytest.fixture(scope="module")
def run(data, config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("api_run") / "run"
    return libra_umop.train(dataset=data, config=config, epochs=1, output_dir=folder, keys=KEYS)


def test_training_gives_back_config_weights_and_results(run):
    assert run.weights.name == "model_best.pth" and run.weights.is_file()
    lines = (run.weights.parent / "metrics.json").read_text().splitlines()
    written = {k: v for line in lines for k, v in json.loads(line).items()}
    assert run.results["bbox"]["AP"] == pytest.approx(written["bbox/AP"])
    assert run.cfg.SOLVER.IMS_PER_BATCH == 2 and run.cfg.is_frozen()


def test_the_run_is_the_one_that_the_command_makes(run, data, config, tmp_path):
    argv = ["--config-file", config, "--dataset", data, "--epochs", 1, "OUTPUT_DIR", tmp_path / "c"]
    argv += [word for pair in KEYS.items() for word in pair]
    assert main([str(word) for word in argv]) == 0
    files = (tmp_path / "c" / "config.yaml", run.weights.parent / "config.yaml")
    by_command, by_function = (yaml.safe_load(file.read_text()) for file in files)
    assert by_command.pop("OUTPUT_DIR") != by_function.pop("OUTPUT_DIR")
    assert by_command == by_function


def test_predictions_are_those_of_the_predictor_in_the_order_of_the_images(run, data):
    files = sorted((data / "images").rglob("*.png"))[:3]
    array = cv2.imread(str(files[0]))
    found = libra_umop.predict(run, [files[2], files[1], array], threshold=0.0)
    assert [p.path for p in found] == [files[2], files[1], None]
    predictor = run.predictor(threshold=0.0)
    for prediction, image in zip(found, [files[2], files[1], files[0]], strict=True):
        expected = predictor(cv2.imread(str(image)))["instances"]
        assert len(expected) > 0
        assert torch.equal(prediction.instances.pred_boxes.tensor, expected.pred_boxes.tensor)
        assert torch.equal(prediction.instances.scores, expected.scores)
        classes = [predictor.class_names[c] for c in expected.pred_classes.tolist()]
        assert prediction.class_names == classes
        assert prediction.draw().shape == prediction.image.shape
    folder = libra_umop.predict(str(run.weights), data / "images")
    assert [p.path for p in folder] == sorted((data / "images").rglob("*.png"))
    assert all((p.instances.scores >= 0.5).all() for p in folder)


def test_a_file_that_is_no_image_is_named_and_left_out(run, data, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"x")
    good = next((data / "images").rglob("*.png"))
    with pytest.warns(UserWarning, match="broken.png"):
        found = libra_umop.predict(run, [tmp_path / "broken.png", good])
    assert [p.path for p in found] == [good]
    with pytest.warns(UserWarning), pytest.raises(DatasetError, match="names no image"):
        libra_umop.predict(run, str(tmp_path / "nothing*"))
    with pytest.raises(ValueError, match="float32"):
        libra_umop.predict(run, np.zeros((9, 9, 3), np.float32))


@pytest.mark.parametrize(
    "change, error, word",
    [
        ({"dataset": "nowhere"}, DatasetError, "nowhere"),
        ({"config": "quick/nope.yaml"}, ConfigError, "quick/nope.yaml"),
        ({"keys": {"MODEL.NOPE": 1}}, ConfigError, "MODEL.NOPE"),
        ({"fit_everything": True}, ConfigError, "fit_anchors"),
        ({}, ConfigError, "which holds a run"),
    ],
)
def test_what_cannot_be_used_is_one_line_that_names_it(run, data, config, change, error, word):
    kwargs = {"dataset": data, "config": config, "output_dir": run.weights.parent, **change}
    with pytest.raises(error, match=word) as info:
        libra_umop.train(**kwargs)
    assert "\n" not in str(info.value)


def test_a_run_that_is_stopped_is_an_interrupt_with_a_checkpoint(
    data, config, tmp_path, monkeypatch
):
    from libra_umop.training.trainer import LibraTrainer

    step = LibraTrainer.run_step

    def interrupted(self):
        step(self)
        if self.iter == 1:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(LibraTrainer, "run_step", interrupted)
    keys = {**KEYS, "SOLVER.MAX_ITER": 9, "SOLVER.STEPS": ()}
    with pytest.raises(KeyboardInterrupt, match="stopped after iteration"):
        libra_umop.train(dataset=data, config=config, output_dir=tmp_path / "s", keys=keys)
    assert (tmp_path / "s" / "last_checkpoint").is_file()


def test_a_split_is_made_as_by_the_commands_switch(data, config, tmp_path):
    (tmp_path / "own" / "annotations").mkdir(parents=True)
    (tmp_path / "own" / "images").symlink_to(data / "images")
    train = data / "annotations" / "train.json"
    (tmp_path / "own" / "annotations" / "train.json").write_text(train.read_text())
    options = {"dataset": tmp_path / "own", "config": config, "epochs": 1, "keys": KEYS}
    run = libra_umop.train(**options, split=0.7, output_dir=tmp_path / "run")
    record = json.loads((tmp_path / "run" / "split.json").read_text())
    assert len(record["val"]) == 2 and "bbox" in run.results
    with pytest.raises(ConfigError, match="split is 2: 2 is not between 0 and 1"):
        libra_umop.train(**options, split=2, output_dir=tmp_path / "other")
