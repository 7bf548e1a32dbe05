"""Checkpoint files: whole or absent, healing, and telling what they are of."""

import os

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import MetadataCatalog

from libra_umop.config import add_libra_umop_config
from libra_umop.engine.checkpoint import LibraCheckpointer, atomic_write, read_run
from libra_umop.engine.errors import ConfigError


class Counter:
    """Stands for the trainer: something with a state."""

    def __init__(self):
        self.value = 0

    def state_dict(self):
        return {"value": self.value}

    def load_state_dict(self, state):
        self.value = state["value"]


def checkpointer(folder, **kwargs):
    return LibraCheckpointer(torch.nn.Linear(2, 1), str(folder), trainer=Counter(), **kwargs)


def save_two(folder):
    writer = checkpointer(folder)
    for value, name in enumerate(("model_0000001", "model_0000003")):
        writer.checkpointables["trainer"].value = value
        writer.save(name, iteration=2 * value + 1)
        os.utime(folder / f"{name}.pth", (value + 1, value + 1))
    return writer


def resumed_iteration(folder):
    state = checkpointer(folder).resume()
    return None if state is None else state["iteration"]


def test_resume_takes_the_last_checkpoint(tmp_path):
    save_two(tmp_path)
    assert resumed_iteration(tmp_path) == 3


@pytest.mark.parametrize(
    "break_it",
    [
        lambda d: (d / "model_0000003.pth").write_bytes(b""),
        lambda d: (d / "model_0000003.pth").write_bytes(b"PK not a checkpoint"),
        lambda d: os.truncate(d / "model_0000003.pth", 900),
        lambda d: os.remove(d / "model_0000003.pth"),
    ],
    ids=["empty", "text", "truncated", "gone"],
)
def test_resume_falls_back_to_the_last_whole_checkpoint_and_says_so(break_it, tmp_path, caplog):
    save_two(tmp_path)
    break_it(tmp_path)
    assert resumed_iteration(tmp_path) == 1
    assert "model_0000003.pth" in caplog.text


@pytest.mark.parametrize("content", ["", "model_9999999.pth", None])
def test_resume_heals_a_broken_last_checkpoint_note(content, tmp_path):
    save_two(tmp_path)
    if content is None:
        (tmp_path / "last_checkpoint").unlink()
    else:
        (tmp_path / "last_checkpoint").write_text(content)
    assert resumed_iteration(tmp_path) == 3


def test_resume_without_any_checkpoint_is_none(tmp_path):
    assert resumed_iteration(tmp_path) is None


def test_the_best_weights_are_neither_tagged_as_last_nor_resumed_from(tmp_path):
    writer = save_two(tmp_path)
    writer.save_weights("model_best", iteration=9)
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000003.pth"
    (tmp_path / "last_checkpoint").write_text("model_best.pth")
    assert resumed_iteration(tmp_path) == 3


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "x.pth"
    atomic_write(str(path), lambda f: f.write(b"old"))

    def fail(f):
        f.write(b"half of the new")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        atomic_write(str(path), fail)
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["x.pth"]


def test_what_a_killed_writer_left_is_removed(tmp_path):
    writer = save_two(tmp_path)
    (tmp_path / ".model_0000005.pth.abc").write_bytes(b"half")
    writer.remove_half_written()
    names = {"last_checkpoint", "model_0000001.pth", "model_0000003.pth"}
    assert set(os.listdir(tmp_path)) == names


def test_a_checkpoint_tells_its_config_and_class_names(tmp_path):
    cfg = get_cfg()
    add_libra_umop_config(cfg)
    cfg.DATASETS.TRAIN = ("checkpoint_test_set",)
    cfg.SEED = 77
    MetadataCatalog.get("checkpoint_test_set").thing_classes = ["red", "green"]
    checkpointer(tmp_path, cfg=cfg).save("model_final")
    read, names = read_run(str(tmp_path / "model_final.pth"))
    assert read.SEED == 77 and read.SOLVER == cfg.SOLVER and names == ["red", "green"]
    torch.save({"model": {}}, tmp_path / "bare.pth")
    assert read_run(str(tmp_path / "bare.pth")) == (None, None)


def test_averaged_weights_are_the_model_and_training_goes_on_with_its_own(tmp_path):
    average = torch.nn.Linear(2, 1)
    writer = checkpointer(tmp_path, average=average)
    writer.save("model_0000001", iteration=1)
    reader = checkpointer(tmp_path, average=torch.nn.Linear(2, 1))
    reader.resume()
    assert torch.equal(reader.average.weight, average.weight)
    assert torch.equal(reader.model.weight, writer.model.weight)
    predictor = LibraCheckpointer(torch.nn.Linear(2, 1))
    predictor.load(str(tmp_path / "model_0000001.pth"), checkpointables=[])
    assert torch.equal(predictor.model.weight, average.weight)


@pytest.mark.parametrize(
    "path, reason",
    [
        ("/nowhere/weights.pkl", "no such file"),
        ("https://127.0.0.1:9/R-50.pkl", "cannot be fetched"),
        ("detectron2://nothing/of/this/kind", "cannot be fetched"),
    ],
)
def test_weights_that_cannot_be_had_name_the_way_out(path, reason, monkeypatch, tmp_path):
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # as without a network
    with pytest.raises(ConfigError) as info:
        LibraCheckpointer(torch.nn.Linear(1, 1)).load(path, checkpointables=[])
    message = str(info.value)
    assert message.startswith(f"MODEL.WEIGHTS is {path!r}: {reason}") and "\n" not in message
    assert 'train from scratch with MODEL.WEIGHTS ""' in message
