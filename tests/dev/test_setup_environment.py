"""The tool behind the Makefile's `setup`: it returns at once, resumes, and spares others' work."""

import json
import subprocess
import sys

import pytest

from testing.scripts import load_script


@pytest.fixture
def tool():
    return load_script("dev/setup_environment.py")


@pytest.fixture
def commands(tool, monkeypatch):
    """Records the commands instead of running them; `python -c` and `freeze` answer for real."""
    recorded = []

    def record(command, **kwargs):
        recorded.append([str(part) for part in command])
        return subprocess.CompletedProcess(command, 0, stdout="[]")

    monkeypatch.setattr(tool, "run", record)
    return recorded


def fake_venv(path):
    (path / "bin").mkdir(parents=True)
    python = path / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return path


def test_finished_setup_is_not_repeated_until_an_input_changes(
    tool, commands, tmp_path, monkeypatch
):
    venv = tmp_path / "venv"
    venv.mkdir()
    tool.write_stamp(venv, ["dev", "plots"], ours=True)
    assert tool.is_done(venv, ["plots"])
    assert not tool.is_done(venv, ["plots", "export"])
    assert tool.main([str(venv), "--extras", "plots"]) == 0 and commands == []
    monkeypatch.setattr(tool, "digest", lambda version: "another")
    assert not tool.is_done(venv, ["plots"])


@pytest.mark.parametrize("content", ["", "[]", '{"digest": 1}', "{"])
def test_damaged_stamp_means_setting_up_again(tool, tmp_path, content):
    (tmp_path / tool.STAMP).write_text(content)
    assert not tool.is_done(tmp_path, [])


def test_environment_with_detectron2_is_used_as_it_is(tool, commands, tmp_path):
    venv = fake_venv(tmp_path / "theirs")
    assert tool.is_foreign(venv)
    assert tool.main([str(venv), "--extras", "dev"]) == 0
    assert not any("constraints.txt" in " ".join(c) or "venv" in c for c in commands)
    assert "--no-deps" in commands[0], "nothing of theirs may be replaced"
    assert json.loads((venv / tool.STAMP).read_text())["ours"] is False


def test_interrupted_own_environment_is_finished_not_taken_as_foreign(tool, commands, tmp_path):
    venv = fake_venv(tmp_path / "ours")
    (venv / f"{tool.STAMP}.ours").touch()
    assert not tool.is_foreign(venv)
    assert tool.main([str(venv)]) == 0
    assert any("install_detectron2.py" in part for c in commands for part in c)
    assert any("constraints.txt" in part for c in commands for part in c)


def test_failure_leaves_no_stamp_and_names_the_command(tool, tmp_path, monkeypatch, capsys):
    venv = fake_venv(tmp_path / "ours")
    (venv / f"{tool.STAMP}.ours").touch()
    monkeypatch.setattr(tool, "make_own", lambda *_: tool.run(["false"]))
    assert tool.main([str(venv)]) == 1
    assert "false" in capsys.readouterr().err
    assert not (venv / tool.STAMP).exists()


def test_listing_finds_what_an_environment_lacks_and_accepts_any_opencv(tool):
    listing = subprocess.run(
        [sys.executable, "-c", tool.LIST_MISSING, "dev"], capture_output=True, text=True, check=True
    )
    assert "torch" not in listing.stdout and "opencv" not in listing.stdout
