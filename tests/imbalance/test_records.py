"""The form on disk: what is written is read, what is broken is named or passed over."""

import json
import subprocess
import sys

import pytest

from libra_umop.imbalance import records
from libra_umop.imbalance.report.run import load_run, load_runs, read_metrics


def test_analysis_imports_no_training_code():
    code = """
import pkgutil, sys
for name in ("torch", "detectron2", "torchvision"):
    sys.modules[name] = None
import libra_umop.imbalance as room
for module in pkgutil.walk_packages(room.__path__, "libra_umop.imbalance."):
    if ".probes" not in module.name:
        __import__(module.name)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_steps_are_read_in_order_and_the_last_line_of_an_iteration_counts(tmp_path):
    for iteration, seconds in ((0, 1.0), (20, 2.0), (40, 3.0), (20, 4.0)):
        records.append_step(tmp_path, {"iteration": iteration, "seconds": seconds})
    steps = records.read_steps(tmp_path)
    assert [(s["iteration"], s["seconds"]) for s in steps] == [(0, 1), (20, 4), (40, 3)]


def test_a_line_that_was_cut_off_is_passed_over(tmp_path):
    records.append_step(tmp_path, {"iteration": 0})
    path = tmp_path / records.FOLDER / records.STEPS_FILE
    path.write_text(path.read_text() + '{"iteration": 20, "sam')
    assert [s["iteration"] for s in records.read_steps(tmp_path)] == [0]


def test_numbers_on_disk_have_five_digits_and_are_finite():
    assert records.shorten({"a": [0.1234567, float("nan"), 2.0, 3]}) == {"a": [0.12346, None, 2, 3]}


def test_meta_is_read_as_written(tmp_path):
    records.write_meta(tmp_path, {"detector": "ATSS"})
    assert records.read_meta(tmp_path) == {"format": records.FORMAT, "detector": "ATSS"}


def test_no_meta_is_empty(tmp_path):
    assert records.read_meta(tmp_path) == {} and records.read_steps(tmp_path) == []


@pytest.mark.parametrize(
    "text, says",
    [
        ("{", "is not JSON"),
        ("[]", "has no format number"),
        (json.dumps({"format": records.FORMAT + 1}), "newer than"),
    ],
)
def test_wrong_meta_is_named(tmp_path, text, says):
    (tmp_path / records.FOLDER).mkdir()
    (tmp_path / records.FOLDER / records.META_FILE).write_text(text)
    with pytest.raises(ValueError, match=says):
        records.read_meta(tmp_path)


def write_metrics(folder, *lines):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text("\n".join(json.dumps(line) for line in lines))
    return folder


def test_metrics_of_one_iteration_are_merged_and_broken_lines_passed_over(tmp_path):
    path = (
        write_metrics(
            tmp_path, {"iteration": 9, "total_loss": 1.0}, {"iteration": 9, "bbox/AP": 30.0}
        )
        / "metrics.json"
    )
    path.write_text(path.read_text() + '\n{"iteration": 19, "tot')
    assert read_metrics(path) == [{"iteration": 9, "total_loss": 1.0, "bbox/AP": 30.0}]


def test_final_metrics_are_those_of_the_last_evaluation(tmp_path):
    run = load_run(
        write_metrics(
            tmp_path,
            {"iteration": 9, "bbox/AP": 30.0, "bbox/AP-cat": 1.0},
            {"iteration": 19, "bbox/AP": 35.0, "segm/AP": 1.0},
        )
    )
    assert run.final_metrics() == {"AP": 35.0, "AP-cat": 1.0}


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is not a folder"):
        load_run(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="neither metrics.json nor"):
        load_run(tmp_path)


def test_runs_of_one_name_are_told_apart(tmp_path):
    folders = [write_metrics(tmp_path / k / "out", {"iteration": 0}) for k in "ab"]
    assert [run.name for run in load_runs(folders)] == ["a/out", "out"]
    assert len({run.name for run in load_runs([folders[0], folders[0]])}) == 2


def test_names_have_to_fit_the_runs(tmp_path):
    with pytest.raises(ValueError, match="2 names for 1 runs"):
        load_runs([write_metrics(tmp_path, {"iteration": 0})], ["a", "b"])


def test_config_with_python_in_it_is_not_run(tmp_path):
    folder = write_metrics(tmp_path, {"iteration": 0})
    target = tmp_path / "was_run"
    text = f"MODEL: !!python/object/apply:os.mkdir ['{target}']"
    (folder / "config.yaml").write_text(text)
    assert load_run(folder).config == {} and not target.exists()
