"""tools/check_dataset.py: text, JSON and exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from testing.coco_files import document, write_dataset, write_json  # noqa: E402
from testing.scripts import load_script

TOOL = Path(__file__).resolve().parents[2] / "tools" / "check_dataset.py"


@pytest.fixture
def run(capsys):
    """The tool in this process: ``run(*argv)`` gives exit code, stdout and stderr."""
    tool = load_script("tools/check_dataset.py")

    def run(*argv):
        try:
            code = tool.main(list(argv))
        except SystemExit as e:
            code = e.code
        return (code, *capsys.readouterr())

    return run


def test_command_line_describes_a_clean_dataset_and_exits_0(tmp_path):
    argv = ["--dataset", write_dataset(tmp_path / "data"), "--json", str(tmp_path / "a.json")]
    result = subprocess.run([sys.executable, str(TOOL), *argv], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "3 images (0 without objects), 6 boxes, 0 crowd regions" in result.stdout
    assert "R-CNN heads pool from:" in result.stdout and result.stdout.endswith("exit code 0\n")
    report = json.loads((tmp_path / "a.json").read_text())
    assert report["status"] == "clean" and report["splits"]["train"]["boxes"] == 6


@pytest.mark.parametrize("code, bbox", [(1, [0, 0, 0, 9]), (2, [0, 0, 9])])
def test_defects_exit_1_and_unusable_2(tmp_path, run, code, bbox):
    content = document(3)
    content["annotations"][0]["bbox"] = bbox
    root = write_dataset(tmp_path, content)
    exit_code, out, _ = run("--dataset", root, "--quick", "--json", "-")
    report = json.loads(out)
    assert exit_code == report["exit_code"] == code
    assert [d["annotation_id"] for d in report["defects"]] == [10]


def test_no_dataset_exits_2_with_one_line(tmp_path, run):
    code, out, err = run("--dataset", str(tmp_path / "nowhere"))
    assert (code, out) == (2, "")
    assert err.startswith(f"DatasetError: {tmp_path / 'nowhere'}: is not a folder")
    assert err.count("\n") == 1
    assert run()[0] == 2


def test_levels_follow_the_test_size_of_a_config(tmp_path, run):
    config = write_json(tmp_path / "c.yaml", "INPUT: {MIN_SIZE_TEST: 64}\nVERSION: 2\n")
    root = write_dataset(tmp_path / "data")
    levels = {}
    for argv in ((), ("--config-file", config)):
        report = json.loads(run("--dataset", root, "--quick", "--json", "-", *argv)[1])
        split = report["splits"]["train"]
        levels[report["resized_to"]["min_size"]] = split["boxes_per_level"]["rcnn_pooler"]
    # 40 x 30 and 24 x 28 pixels; enlarged 12.5 times they are 433 and 324, between 224 and 448
    assert levels == {
        800: {"P2": 0, "P3": 0, "P4": 6, "P5": 0},
        64: {"P2": 6, "P3": 0, "P4": 0, "P5": 0},
    }


def test_names_with_line_breaks_leave_the_lines_as_they_are(tmp_path, run):
    content = document(3)
    content["categories"][0]["name"] = "c\nzz"
    content["images"][0]["file_name"] = "a\nb.png"
    code, out, _ = run("--dataset", write_dataset(tmp_path / "b", content, content))
    assert out.count("c\\nzz") == 1 and "\nzz" not in out
    (tmp_path / "b" / "images" / "train" / "a\nb.png").write_text("no image")
    code, out, _ = run("--dataset", str(tmp_path / "b"))
    assert code == 2 and "a\\nb.png" in out and "\nb.png" not in out


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_the_gallery_shows_mosaics_where_the_config_makes_them(tmp_path, run, suffix):
    root = write_dataset(tmp_path / "data")
    drawn = []
    for prob in ("0.0", "1.0"):
        config = tmp_path / "c.yaml"
        config.write_text(f"INPUT:\n  MOSAIC:\n    PROB: {prob}\n")
        out = tmp_path / f"look{prob}.{suffix}"
        argv = ["--dataset", root, "--config-file", str(config), "--gallery", str(out)]
        assert run(*argv)[0] == 0
        drawn.append(out.read_bytes())
    assert drawn[0] != drawn[1]
