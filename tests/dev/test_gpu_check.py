"""dev/gpu_check.py on a machine without a GPU: its sections work, and end when they have to."""

import argparse
import importlib.util
import json
import sys

import pytest


@pytest.fixture
def check(repo, monkeypatch):
    """The script's module; its neighbours can be imported."""
    for folder in ("benchmarks", "dev"):
        monkeypatch.syspath_prepend(str(repo / folder))
    import gpu_check

    return gpu_check


def test_every_measuring_section_gives_a_row_of_the_table(check, tmp_path):
    args = argparse.Namespace(device="cpu", output=tmp_path, section="")
    sections = ("additions", "steps", "losses", "inference", "profile")
    for args.section in sections:
        check.run_section(args)
    report = json.loads(check.result_file(args).read_text())
    assert set(report) == {"environment", "commits", *sections}
    assert set(report["commits"]) == set(sections)
    from gpu_table import markdown

    table = markdown(report)
    for label in ("libra_faster_rcnn", "umop_gfl", "focal_loss_sum", "SGD, fused", "TorchScript"):
        assert label in table
    assert ("ONNX Runtime" in table) == bool(importlib.util.find_spec("onnxruntime"))
    for group in [*report["steps"]["groups"], *report["additions"]["groups"]]:
        first, *others = group["rows"].values()
        assert first["ratio"] == 1
        for row in others:
            assert row["ratio"] == pytest.approx(row["ms"] / first["ms"])


def test_what_a_gpu_is_asked_can_be_loaded(check):
    import gpu_groups

    for group in [*gpu_groups.step_groups("cuda"), *gpu_groups.addition_groups("cuda")]:
        labels = [x.label for x in group.contenders]
        assert len(labels) == len(set(labels)) > 1 and group.precision in gpu_groups.PRECISIONS
        for x in group.contenders:
            assert x.load().MODEL.META_ARCHITECTURE


def test_a_section_that_takes_too_long_is_ended_with_its_children(check, tmp_path):
    marker = tmp_path / "child"
    child = f"import time; time.sleep(3); open({str(marker)!r}, 'w')"
    command = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    assert check.run_within([sys.executable, "-c", command], None, 1.5) == "cut off"
    assert check.run_within([sys.executable, "-c", "import time; time.sleep(2)"], None, 9) == 0
    assert not marker.exists()


def test_the_table_of_a_file_is_printed_again(check, tmp_path, capsys):
    environment = {"device": "X", "torch": "2"}
    tests = {"tests": 3, "failures": 1, "errors": 0, "skipped": 0, "seconds": 2.0, "failed": ["y"]}
    file = tmp_path / "X.json"
    file.write_text(
        json.dumps({"environment": environment, "commits": {"tests": "0123-dirty"}, "tests": tests})
    )
    assert check.main(["--table", str(file)]) == 0
    out = capsys.readouterr().out
    assert "2 passed, 1 failed" in out and "\ny" in out and "tests 0123-dirty" in out
