"""What holds for every tool: a quick --help, no traceback for what the system or a user did."""

import logging
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

TOOLS = [
    "benchmark",
    "check_dataset",
    "contact_sheet",
    "convert_checkpoint",
    "export",
    "install_detectron2",
    "make_shapes",
    "predict",
    "report",
    "study",
]
DEV = Path(__file__).resolve().parents[2] / "dev"
OF_DEVELOPERS = sorted(p.stem for p in DEV.glob("*.py") if "__main__" in p.read_text())
RETINANET = "configs/COCO-Detection/umop_retinanet_R_50_FPN_1x.yaml"
QUICK = "configs/quick/retinanet_R_18_FPN_shapes.yaml"
SLOW = {"torch", "detectron2", "cv2", "plotly", "timm", "onnx", "matplotlib", "pycocotools"}


def test_all_tools_are_meant(repo):
    assert sorted(path.stem for path in (repo / "tools").glob("*.py")) == TOOLS
    assert len(TOOLS) <= 10, "a folder is a table of contents"


@pytest.mark.parametrize(
    "name",
    [*(f"tools/{t}" for t in TOOLS), "train_net", *(f"dev/{t}" for t in OF_DEVELOPERS)],
)
def test_help_loads_nothing_slow_and_warns_of_nothing(repo, name):
    code = f"""
import runpy, sys
sys.argv = [{name!r}, "--help"]
try:
    runpy.run_path({str(repo / name)!r} + ".py", run_name="__main__")
except SystemExit as e:
    assert not e.code, e.code
print("loaded", *({SLOW!r} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert "usage" in done.stdout and done.stdout.splitlines()[-1] == "loaded"


@pytest.fixture
def call(tool, checkpoint, capsys, tmp_path, repo, monkeypatch):
    """Runs a tool on words of which W is a checkpoint, F a path below a file, D a drawn set and OUT
    a new file; gives exit code, stdout and stderr."""
    monkeypatch.chdir(repo)
    (tmp_path / "file").write_text("kept")

    def run(line):
        words = {"W": checkpoint(RETINANET), "F": tmp_path / "file" / "below"}
        if " D" in line:
            words["D"] = tmp_path / "d"
            drawn = ["--num-train", "4", "--num-val", "3", "--size", "96", "--output"]
            tool("make_shapes").main([*drawn, str(words["D"])])
        capsys.readouterr()
        place = f"{tmp_path}/o"
        line = re.sub(r" D/", f" {tmp_path}/d/", line)
        name, *argv = [str(words.get(w, w)).replace("OUT", place) for w in line.split()]
        try:
            code = tool(name).main(argv)
        except SystemExit as e:
            code = e.code
        return code, *capsys.readouterr()

    return run


@pytest.mark.parametrize(
    "line",
    [
        f"benchmark --config-file {QUICK} --json {QUICK}",
        "check_dataset --dataset D --json D/annotations/train.json",
        "contact_sheet --weights W --dataset D --output D/images/val_00000.png",
        f"convert_checkpoint W --config-file {QUICK} --output W",
        "export --weights W --format torchscript --output W",
        "predict --weights W D/images --json W",
        "predict --weights W D/images --output D/images",
        f"report --config-file {QUICK} --dataset D --output {QUICK}",
    ],
)
def test_what_is_read_is_not_overwritten(call, line, repo, tmp_path):
    code, _, err = call(line)
    assert code == 2 and err.count("\n") == 1
    assert "would be overwritten, and is read; name another output" in err


@pytest.mark.parametrize(
    "name, said",
    [
        ("metrics.html", "metrics.json: would be overwritten, and is read; name another output"),
        ("r.json", "r.json, should end in .html: JSON and text stand beside it"),
        ("r.txt", "r.txt, should end in .html: JSON and text stand beside it"),
    ],
)
def test_a_report_does_not_write_over_its_run_or_itself(call, tmp_path, name, said):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.json").write_text("{}\n")
    code, _, err = call(f"report {tmp_path}/run --output {tmp_path}/run/{name}")
    assert code == 2 and err.endswith(f"{said}\n") and err.count("\n") == 1
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["metrics.json"]


@pytest.mark.parametrize("name", ["train", "val"])
def test_annotations_of_ones_own_are_not_drawn_over(call, tmp_path, name):
    file = tmp_path / "mine" / "annotations" / f"{name}.json"
    file.parent.mkdir(parents=True)
    file.write_text('{"categories": [{"id": 1, "name": "cell"}]}')
    line = f"make_shapes --num-train 1 --num-val 1 --size 64 --output {tmp_path}/mine"
    code, _, err = call(line)
    assert code == 2 and err == f"{file}: is of another set, and would be replaced\n"
    assert "cell" in file.read_text()


@pytest.mark.parametrize(
    "line",
    [
        f"benchmark --config-file {QUICK} --json F",
        "check_dataset --dataset D --json F",
        "check_dataset --dataset D --json /dev/full",
        "contact_sheet --weights W --dataset D --output F",
        f"convert_checkpoint W --config-file {QUICK} --output F",
        "export --weights W --format torchscript --output F",
        "make_shapes --num-train 1 --num-val 1 --size 64 --output F",
        f"report --config-file {QUICK} --dataset D --output F",
    ],
)
def test_an_output_that_cannot_be_written_is_one_line(call, line):
    code, _, err = call(line)
    assert code == 2 and err.count("\n") == 1
    assert "below" in err or "/dev/full" in err


@pytest.mark.parametrize(
    "line, word",
    [
        ("contact_sheet --weights W --dataset D --output OUT.png --num-images 0", "at least 1"),
        ("contact_sheet --weights W --dataset D --output OUT.png --threshold 2", "[0, 1]"),
        ("contact_sheet --weights W --dataset D --output OUT.xyz", ".png"),
        ("contact_sheet --weights W --dataset D --output OUT.png", "is of other classes"),
        ("contact_sheet --weights nowhere.pth --dataset D --output OUT.png", "nowhere.pth"),
        ("contact_sheet --weights W --dataset 'nothing*' --output OUT.png", "nothing*"),
        ("export --weights W --format onnx --opset 3", "--opset"),
        (f"report --config-file {QUICK} --dataset D --iterations 0", "at least 1"),
        ("report nothing* --output OUT", "nothing*"),
        ("report W --min-score 7", "[0, 1]"),
        ("check_dataset --dataset nothing*", "nothing*"),
        ("check_dataset --dataset D --max-listed -1", "--max-listed"),
        ("predict nothing* --weights W", "nothing*"),
        ("benchmark --config-file nowhere.yaml", "nowhere.yaml"),
        ("export --weights W --format onnx --opts MODEL.DEVICE cuda:99", "no CUDA device"),
    ],
)
def test_a_mistake_is_named_in_one_line(call, line, word):
    code, _, err = call(line)
    assert code == 2 and word in err.strip().splitlines()[-1] + err.splitlines()[0]
    assert "Traceback" not in err


@pytest.mark.parametrize("format", ["torchscript", "onnx"])
def test_a_full_disk_ends_an_export_with_one_line(call, tmp_path, format, monkeypatch):
    """A limit on the size of files stands for the disk's; torch itself would abort the process."""
    # The log.txt of runs that other tests trained in this process are above the limit.
    monkeypatch.setattr(logging, "raiseExceptions", False)
    before = set(tmp_path.iterdir())
    old, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.getsignal(signal.SIGXFSZ)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    call("predict nothing* --weights W")  # the checkpoint is made
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, old[1]))
    try:
        code, _, err = call(f"export --weights W --format {format} --output OUT --sizes 96x96")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    assert code == 2 and "File too large" in err and err.count("\n") == 1
    assert set(tmp_path.iterdir()) - before <= {tmp_path / "file"}


def test_a_full_disk_ends_a_conversion_with_one_line(tmp_path):
    import torch

    from libra_umop.convert.run import _write
    from libra_umop.utils.output_files import OutputError

    old, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.getsignal(signal.SIGXFSZ)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, old[1]))
    try:
        with pytest.raises(OutputError, match="File too large.*out.pth"):
            _write({"model": torch.zeros(10_000)}, str(tmp_path / "out.pth"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "line",
    [
        "predict {photo} --weights {weights} --device cpu --output {out}",
        "export --weights {weights} --format torchscript --output {out}/x.ts --sizes 96x96",
        "export --weights {weights} --format onnx --output {out}/x.onnx --sizes 96x96",
    ],
)
def test_a_tool_that_works_says_nothing_on_stderr(repo, checkpoint, tmp_path, line):
    """In a process of its own, as libraries warn when they are imported."""
    import cv2

    photo = tmp_path / "photo.png"
    cv2.imwrite(str(photo), np.zeros((60, 80, 3), np.uint8))
    words = {"photo": photo, "weights": checkpoint(RETINANET), "out": tmp_path / "out"}
    name, *argv = [word.format(**words) for word in line.split()]
    command = [sys.executable, str(repo / "tools" / f"{name}.py"), *argv]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
