"""Runs in a used, full or unwritable folder, and what a run says before and after."""

import contextlib
import json
import os
import re
import resource
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import train_net  # noqa: E402

from libra_umop.data.dataset_args import DataSource  # noqa: E402
from libra_umop.training.checkpoint import checkpointer as checkpoint  # noqa: E402
from libra_umop.training.words import CONFIG  # noqa: E402
from testing.engine_runs import DETECTING, RETINANET, weights, write_config, write_dataset  # noqa: E402

NO_VAL = ("DATASETS.TEST", "()")
SHORT = ("SOLVER.MAX_ITER", "2", "SOLVER.STEPS", "()")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("runs") / "shapes2")


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return write_config(tmp_path_factory.mktemp("config") / "c.yaml", DETECTING)


@pytest.fixture(scope="module")
def base(config, data):
    return ["--config-file", str(config), "--dataset", str(data)]


@pytest.fixture(scope="module")
def finished(base, tmp_path_factory):
    """OUTPUT_DIR of a run of two epochs, and what it printed."""
    folder = tmp_path_factory.mktemp("finished")
    with contextlib.redirect_stdout((folder / "stdout").open("w")):
        out = folder / "out"
        assert run(*base, "--epochs", "2", "OUTPUT_DIR", out, "ANALYSIS.ENABLED", "True") == 0
    return out, re.sub(r"\x1b\[[0-9;]*m", "", (folder / "stdout").read_text()).splitlines()


@pytest.fixture
def used(finished, tmp_path):
    return Path(shutil.copytree(finished[0], tmp_path / "used"))


def run(*args):
    return train_net.run([str(arg) for arg in args])


def refused(capsys, *args) -> str:
    with pytest.raises(SystemExit) as info:
        run(*args)
    assert info.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def content(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def iterations(folder):
    return [json.loads(x)["iteration"] for x in (folder / "metrics.json").read_text().splitlines()]


def test_a_second_run_in_a_used_folder_is_refused_and_changes_nothing(base, used, capsys):
    before = content(used)
    line = refused(capsys, *base, "OUTPUT_DIR", used)
    assert line.startswith(f"ConfigError: OUTPUT_DIR is {str(used)!r}, which holds a run (")
    assert "--resume" in line and "--overwrite" in line
    assert content(used) == before


def test_overwriting_leaves_one_run_and_may_start_from_its_weights(base, used):
    assert len(iterations(used)) > 0 and (used / "imbalance").is_dir()
    args = ["MODEL.WEIGHTS", used / "model_best.pth", *SHORT, *NO_VAL]
    assert run(*base, "--overwrite", "OUTPUT_DIR", used, *args) == 0
    assert iterations(used) == [1] and not (used / "imbalance").exists()
    names = sorted(p.name for p in used.glob("model_*.pth"))
    assert names == ["model_0000001.pth", "model_final.pth"]
    assert len(list(used.glob("events.out.tfevents.*"))) == 1


def test_overwriting_removes_nothing_where_the_new_run_cannot_begin(base, used, capsys):
    before = {p: text for p, text in content(used).items() if p.suffix in (".pth", ".json")}
    args = ["--overwrite", "OUTPUT_DIR", used, "MODEL.WEIGHTS", "/nix.pkl"]
    assert "no such file" in refused(capsys, *base, *args)
    after = content(used)
    assert {p: after[p] for p in before} == before


def test_resuming_with_overwrite_goes_on(base, used, capsys):
    """A scheduler adds --resume to the command that it starts again."""
    last = weights(used / "model_final.pth", "iteration")
    more = ["SOLVER.MAX_ITER", last + 3, "SOLVER.STEPS", "()", *NO_VAL]
    assert run(*base, "--resume", "--overwrite", "OUTPUT_DIR", used, *more) == 0
    assert f"Resumed after iteration {last}" in capsys.readouterr().out
    assert iterations(used)[-1] == last + 2 and iterations(used)[0] <= last


def test_resuming_where_no_checkpoint_is_whole_starts_anew_and_keeps_what_was_there(
    base, used, capsys
):
    best = (used / "model_best.pth").read_bytes()
    for path in used.glob("model_*.pth"):
        if path.name != "model_best.pth":
            path.unlink()
    assert run(*base, "--resume", "OUTPUT_DIR", used, *SHORT, *NO_VAL) == 0
    assert f"starting anew; what was there is in {used}/aborted" in capsys.readouterr().out
    assert (used / "aborted" / "model_best.pth").read_bytes() == best
    assert iterations(used) == [1] and not (used / "model_best.pth").exists()


def test_evaluating_in_a_used_folder_leaves_its_config(base, used):
    before = (used / "config.yaml").read_bytes()
    args = ["OUTPUT_DIR", used, "MODEL.WEIGHTS", used / "model_best.pth"]
    assert run(*base, "--eval-only", *args, "MODEL.RETINANET.SCORE_THRESH_TEST", "0.3") == 0
    assert (used / "config.yaml").read_bytes() == before


def test_measuring_without_an_output_dir_takes_a_folder_of_its_own(
    base, config, data, tmp_path, monkeypatch
):
    from libra_umop.errors import ConfigError
    from libra_umop.training.measuring_run import collect, configured

    monkeypatch.chdir(tmp_path)
    for folder in ("measured", "measured_2"):
        cfg = configured(str(config), DataSource(dataset=str(data)), ["MODEL.WEIGHTS", ""])
        assert f"./output/{folder}" == cfg.OUTPUT_DIR
        collect(cfg, 1)
        assert len(Path(cfg.OUTPUT_DIR, "imbalance", "steps.jsonl").read_text().splitlines()) == 1
    with pytest.raises(ConfigError, match="which holds a run; give another one"):
        configured(str(config), DataSource(dataset=str(data)), ["OUTPUT_DIR", "output/measured"])


def test_an_unwritable_folder_is_one_line(base, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    line = refused(capsys, *base, "OUTPUT_DIR", tmp_path / "file" / "out")
    assert re.fullmatch(r"ConfigError: OUTPUT_DIR is '.*', which cannot be written: .*", line)


def test_a_disk_that_fills_up_is_one_line_with_the_last_whole_checkpoint(
    base, tmp_path, capsys, monkeypatch
):
    save, saved = torch.save, []

    def save_twice(data, f):
        saved.append(f)
        if len(saved) > 2:
            f.write(b"half of it")
            raise OSError(28, "No space left on device")
        save(data, f)

    monkeypatch.setattr(checkpoint.torch, "save", save_twice)
    out = tmp_path / "out"
    line = refused(capsys, *base, "OUTPUT_DIR", out, *NO_VAL)
    assert "at iteration 5 the system said 'No space left on device'" in line
    assert f"the last whole checkpoint is {out}/model_0000003.pth" in line and "--resume" in line
    assert sorted(p.name for p in out.glob("*model*")) == ["model_0000001.pth", "model_0000003.pth"]


@pytest.mark.parametrize("limit, said", [(2_000_000, "no whole checkpoint yet"), (30_000, "")])
def test_where_files_cannot_grow_there_is_no_traceback_from_anyone(base, tmp_path, limit, said):
    """The system's own limit: checkpoints reach it, then log.txt. Loggers, tensorboard's thread,
    torch's archives and files that are closed at exit would print a traceback each."""
    done = subprocess.run(
        [sys.executable, "train_net.py", *base, "OUTPUT_DIR", str(tmp_path / "out"), *NO_VAL],
        capture_output=True,
        text=True,
        cwd=HERE.parent,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert done.returncode == 2, done.stdout[-2000:] + done.stderr[-2000:]
    (line,) = done.stderr.splitlines()
    assert line.startswith("ConfigError: OUTPUT_DIR is ") and "File too large" in line
    assert said in line and "Traceback" not in done.stdout


def test_what_matters_comes_last_before_the_first_step(finished, data):
    out, lines = finished
    first_loss = next(i for i, line in enumerate(lines) if "total_loss" in line)
    assert first_loss < 20 and not any("Environment info" in line for line in lines)
    block = "\n".join(lines[:first_loss])
    assert f"OUTPUT_DIR is {out}, for a new run" in lines[0]
    wanted = [
        r"train\.json: 7 images",
        r"val\.json: 3 images",
        "2 classes: red, green",
        "--epochs 2 of 7 images",
        "batch 2 = 1 x 2",
        "device: cpu",
        f"results: {out} .*log.txt",
    ]
    assert re.search(".*\n.*".join(wanted), block, re.S)
    assert lines[first_loss - 1].endswith("log.txt)")
    assert re.search(r"epoch: 0\.\d\d/2 .*iter: 0 ", lines[first_loss])
    log = (out / "log.txt").read_text()
    for text in ("Environment info", "Running with full config", "2 classes: red, green"):
        assert text in log


def test_the_end_names_the_best_ap_the_weights_and_the_next_commands(finished, data):
    out, lines = finished
    end = [re.sub(r"^\[.*?\]: ", "", line) for line in lines[-6:]]
    best = weights(out / "model_best.pth", "best")["bbox/AP"]
    assert end[0].startswith(f"best bbox/AP: {best:.2f}, after epoch ")
    assert end[1] == f"weights to use: {out}/model_best.pth"
    commands = [shlex.split(line) for line in end[3:]]
    assert [c[1] for c in commands] == ["tools/predict.py", "tools/report.py", "tools/export.py"]
    assert all((HERE.parent / c[1]).is_file() for c in commands)
    assert commands[0][2:5] == ["--weights", f"{out}/model_best.pth", f"{data}/images"]
    assert commands[1][2:] == [str(out)]


def test_train_only_data_say_that_nothing_will_be_evaluated_and_how_to_split(
    config, tmp_path, capsys
):
    alone = write_dataset(tmp_path / "alone")
    (alone / "annotations" / "val.json").unlink()
    args = ["--config-file", config, "--dataset", alone, "OUTPUT_DIR", tmp_path / "out"]
    assert run(*args, *SHORT) == 0
    out = capsys.readouterr().out
    assert out.index("nothing will be evaluated") < out.index("total_loss")
    assert "--val-json FILE" in out and "nothing was evaluated" in out
    assert f"weights to use: {tmp_path}/out/model_final.pth" in out


@pytest.mark.parametrize(
    "args",
    [["--dataset", "cells"], ["--train-json", "a.json", "--epochs", "3"], ["--num-gpus", "2"]],
    ids=" ".join,
)
def test_without_a_config_the_fitting_command_is_shown(args, capsys):
    assert run(*args) == 2
    command = f"python train_net.py --config-file {CONFIG} {' '.join(args)}"
    assert command in capsys.readouterr().out


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_cuda_that_is_asked_for_and_not_there_is_refused(device, base, tmp_path, capsys, no_cuda):
    line = refused(capsys, *base, "OUTPUT_DIR", tmp_path / "out", "MODEL.DEVICE", device)
    assert line.startswith(f"ConfigError: MODEL.DEVICE is {device!r}, but torch finds no CUDA")
    assert not (tmp_path / "out").exists()


def test_several_gpus_that_are_not_there_are_refused(data, tmp_path, capsys, no_cuda):
    on_cuda = {**RETINANET, "MODEL": {**RETINANET["MODEL"], "DEVICE": "cuda"}}
    config = write_config(tmp_path / "c.yaml", on_cuda)
    args = ["--config-file", config, "--dataset", data, "--num-gpus", "2"]
    line = refused(capsys, *args, "OUTPUT_DIR", tmp_path / "out")
    assert line.startswith("ConfigError: --num-gpus is 2, but torch finds no CUDA device here")


def test_by_default_the_cpu_is_taken_and_said(data, tmp_path, capsys, no_cuda):
    on_cuda = {**RETINANET, "MODEL": {**RETINANET["MODEL"], "DEVICE": "cuda"}}
    config = write_config(tmp_path / "c.yaml", on_cuda)
    args = ["--config-file", config, "--dataset", data, "OUTPUT_DIR", tmp_path / "out"]
    assert run(*args, *SHORT, *NO_VAL) == 0
    lines = capsys.readouterr().out.splitlines()
    first_loss = next(i for i, line in enumerate(lines) if "total_loss" in line)
    assert any("MODEL.DEVICE is cpu, as there is no CUDA" in x for x in lines[first_loss - 3 :])


@pytest.mark.parametrize("asked", ["cuda", "cuda:3", "gpu"])
def test_a_tool_that_is_given_a_device_that_is_not_there_refuses_it(asked, no_cuda):
    from libra_umop.config.devices import device_of
    from libra_umop.errors import ConfigError

    with pytest.raises(ConfigError, match=f"^--device is '{asked}', "):
        device_of(asked, "--device")
    assert device_of("", "--device") == "cpu" == device_of("cpu", "--device")


@pytest.fixture
def no_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_the_help_shows_no_warnings_of_libraries():
    done = subprocess.run(
        [sys.executable, "train_net.py", "--help"], cwd=HERE.parent, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "") and "--overwrite" in done.stdout


WITHOUT_SIGNALS = """
import pkgutil, signal, sys
import torch, detectron2.engine, detectron2.evaluation, timm  # what is not ours may need them
for name in ("SIGUSR1", "pthread_sigmask", "sigwaitinfo", "SIGKILL"):
    delattr(signal, name)
for name in ("resource", "fcntl"):
    sys.modules[name] = None
import libra_umop
for module in pkgutil.walk_packages(libra_umop.__path__, "libra_umop."):
    if module.name.startswith("libra_umop.study"):
        continue  # its runs are forks of one process
    if module.name != "libra_umop.functional.focal_loss.kernels":  # needs Triton
        __import__(module.name)
from libra_umop.training.hooks.stop_on_signal import SIGNALS
print(sorted(s.name for s in SIGNALS))
sys.path.insert(0, {repo!r})
import train_net
sys.exit(train_net.run({args!r}))
"""


def test_training_works_where_there_are_no_posix_signals(base, tmp_path):
    """As on Windows, with data-loading workers too."""
    args = [*base, "OUTPUT_DIR", str(tmp_path / "out"), *SHORT, "DATALOADER.NUM_WORKERS", "1"]
    code = WITHOUT_SIGNALS.format(repo=str(HERE.parent), args=args)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith("['SIGINT', 'SIGTERM']")
