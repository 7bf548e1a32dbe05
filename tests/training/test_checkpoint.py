"""Checkpoint files: whole or absent, healing, and telling what they are of."""

import os
import signal
import subprocess
import sys

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import MetadataCatalog

from libra_umop.config import add_libra_umop_config
from libra_umop.errors import ConfigError
from libra_umop.training.checkpoint.checkpointer import LibraCheckpointer
from libra_umop.training.checkpoint.run_content import read_run
from libra_umop.utils.atomic_files import atomic_write


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


def keeping(folder, keep):
    cfg = get_cfg()
    add_libra_umop_config(cfg)
    cfg.SOLVER.CHECKPOINT_KEEP = keep
    return checkpointer(folder, cfg=cfg)


def save_all(writer, iterations):
    for i in iterations:
        writer.save(f"model_{i:07d}", iteration=i)


def kept(folder):
    return sorted(int(f.name[6:-4]) for f in folder.glob("model_0*.pth"))


@pytest.mark.parametrize("keep, left", [(0, [1, 3, 5]), (1, [5]), (2, [3, 5]), (9, [1, 3, 5])])
def test_as_many_periodic_checkpoints_stay_as_are_to_be_kept(keep, left, tmp_path):
    writer = keeping(tmp_path, keep)
    writer.save_weights("model_best", iteration=0)
    save_all(writer, (1, 3, 5))
    assert kept(tmp_path) == left and (tmp_path / "model_best.pth").is_file()
    assert resumed_iteration(tmp_path) == 5


def test_a_run_that_fell_back_keeps_what_it_fell_back_on(tmp_path):
    writer = keeping(tmp_path, 2)
    save_all(writer, (3, 5, 7))
    os.truncate(tmp_path / "model_0000007.pth", 900)
    assert resumed_iteration(tmp_path) == 5
    save_all(writer, (6,))  # stopped by a signal, before 7 is written again
    assert kept(tmp_path) == [5, 6, 7] and resumed_iteration(tmp_path) == 6


KILLED_WHILE_WRITING = """
import os, signal, sys, torch
sys.path.insert(0, {here!r})
from test_checkpoint import keeping, save_all
from pathlib import Path
writer = keeping(Path({folder!r}), 2)
save_all(writer, (1, 3, 5))
whole_save = torch.save
def half(data, f):
    whole_save(data, f)
    f.truncate(f.tell() // 2)
    os.kill(os.getpid(), signal.SIGKILL)
torch.save = half
save_all(writer, (7,))
"""


def test_a_kill_while_writing_leaves_the_checkpoint_before_and_the_one_before_that(tmp_path):
    here = os.path.dirname(__file__)
    code = KILLED_WHILE_WRITING.format(here=here, folder=str(tmp_path))
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert kept(tmp_path) == [3, 5] and list(tmp_path.glob(".model_0000007.pth.*"))
    assert resumed_iteration(tmp_path) == 5
    os.truncate(tmp_path / "model_0000005.pth", 900)
    assert resumed_iteration(tmp_path) == 3
    writer = keeping(tmp_path, 2)
    writer.remove_half_written()
    save_all(writer, (5, 7))
    assert kept(tmp_path) == [5, 7] and not list(tmp_path.glob(".model*"))


@pytest.mark.parametrize("links", [True, False], ids=["hard links", "no hard links"])
def test_the_final_checkpoint_is_the_last_one_by_another_name(links, tmp_path, monkeypatch):
    if not links:
        monkeypatch.setattr(os, "link", lambda *a: (_ for _ in ()).throw(OSError("not supported")))
    writer = save_two(tmp_path)
    for _ in range(2):  # a second time as after a resume
        writer.save_as("model_final", "model_0000003")
    final, last = tmp_path / "model_final.pth", tmp_path / "model_0000003.pth"
    assert final.read_bytes() == last.read_bytes() and final.samefile(last) == links
    assert set(os.listdir(tmp_path)) == {
        "last_checkpoint",
        "model_0000001.pth",
        "model_0000003.pth",
        "model_final.pth",
    }
    assert resumed_iteration(tmp_path) == 3
    last.unlink()
    assert resumed_iteration(tmp_path) == 3
