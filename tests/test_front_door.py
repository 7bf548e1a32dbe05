"""What the package offers at its door: names, configs and commands."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import libra_umop
from libra_umop import functional
from libra_umop.cli.__main__ import COMMANDS, main
from libra_umop.config.loading import load_config
from libra_umop.errors import ConfigError

SLOW = {"torch", "detectron2", "cv2", "plotly", "timm", "onnx", "matplotlib", "pycocotools"}
UMOP = "COCO-Detection/umop_atss_R_50_FPN_1x.yaml"


def test_functional_offers_every_public_function_of_its_files(repo):
    """Public: a function or class without a leading underscore; of a folder, what it offers."""
    public = set()
    folder = repo / "projects" / "libra_umop" / "functional"
    for door in folder.glob("*/__init__.py"):
        public |= set(importlib.import_module(f"{functional.__name__}.{door.parent.name}").__all__)
    for path in folder.glob("[!_]*.py"):
        body = ast.parse(path.read_text()).body
        public |= {n.name for n in body if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
    assert set(functional.__all__) == {name for name in public if not name.startswith("_")}
    assert functional.__all__ == sorted(functional.__all__)
    assert all(callable(getattr(functional, name)) for name in functional.__all__)


def test_the_functions_of_the_methods_are_there():
    from libra_umop.functional import (  # noqa: F401
        BalancedFeaturePyramid,
        atss_match,
        balanced_l1_loss,
        focal_loss_sum,
        gather_levels,
        hardest,
        progressive_focus,
        sample_instance_balanced_positives,
        sample_iou_balanced_negatives,
        scatter_levels,
    )


def test_every_name_at_the_door_leads_somewhere():
    for name in libra_umop.__all__:
        assert getattr(libra_umop, name).__name__ == name
        assert name in dir(libra_umop)
    with pytest.raises(AttributeError, match="LibraPredicto"):
        getattr(libra_umop, "LibraPredicto")  # noqa: B009


def test_a_shipped_config_is_the_file_of_the_checkout(repo):
    assert libra_umop.get_config(UMOP) == load_config(str(repo / "configs" / UMOP))
    cfg = libra_umop.get_config(UMOP, ["SOLVER.BASE_LR", "0.5"])
    assert cfg.SOLVER.BASE_LR == 0.5 and cfg.MODEL.META_ARCHITECTURE == "UMOPATSS"


def test_a_shipped_config_is_found_from_any_folder_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wanted = libra_umop.get_config(UMOP)
    assert load_config(UMOP) == load_config(f"configs/{UMOP}") == wanted
    own = tmp_path / UMOP
    own.parent.mkdir()
    own.write_text("MODEL: {DEVICE: cpu}")
    assert load_config(UMOP) != wanted  # a file that is there comes first


@pytest.mark.parametrize(
    "name, hint",
    [
        ("umop_atss_R_50_FPN_1x.yaml", f"; did you mean {UMOP}?"),
        ("COCO-Detection/umop_atss_R50_FPN_1x.yaml", f"; did you mean {UMOP}?"),
        ("../setup.cfg", ""),
        ("/etc/hostname", ""),
        ("", ""),
    ],
)
def test_a_config_that_is_not_shipped_is_one_line(name, hint):
    with pytest.raises(ConfigError) as info:
        libra_umop.get_config(name)
    assert str(info.value) == f"no config of this project is named {name!r}{hint}"


def test_every_command_is_a_file_and_every_script_a_shell_of_one(repo):
    package = repo / "projects" / "libra_umop" / "cli" / "commands"
    assert sorted(COMMANDS) == sorted(path.stem for path in package.glob("[!_]*.py"))
    scripts = {"train": "train_net", "check": "tools/check_dataset"}
    scripts["convert"] = "tools/convert_checkpoint"
    scripts |= {"sheet": "tools/contact_sheet", "shapes": "tools/make_shapes"}
    for name in COMMANDS:
        path = repo / (scripts.get(name, f"tools/{name}") + ".py")
        assert f"libra_umop.cli.commands.{name} import main" in path.read_text()
        assert len(path.read_text().splitlines()) < 30


def test_help_of_every_command_loads_nothing_slow_and_names_it():
    code = f"""
import sys
from libra_umop.cli.__main__ import COMMANDS, main
for name in COMMANDS:
    try:
        main([name, "--help"])
    except SystemExit as e:
        assert not e.code, e.code
print("loaded", *({SLOW!r} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert all(f"usage: libra-umop {name} " in done.stdout for name in COMMANDS)
    assert done.stdout.splitlines()[-1] == "loaded"


@pytest.mark.parametrize(
    "argv, code, word",
    [
        ([], 2, "which command?"),
        (["predikt"], 2, "did you mean predict?"),
        (["--help"], 0, "predict"),
        (["--version"], 0, libra_umop.__version__),
    ],
)
def test_the_command_itself_answers(argv, code, word, capsys):
    assert main(argv) == code
    captured = capsys.readouterr()
    assert word in (captured.err if code else captured.out)


def test_a_command_has_the_exit_code_of_its_script(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    with pytest.raises(SystemExit) as info:
        main(["check", "--dataset", str(tmp_path / "nowhere")])
    assert info.value.code == 2 and capsys.readouterr().err.startswith("DatasetError: ")


def test_what_to_type_next_follows_how_the_process_was_started(monkeypatch):
    from libra_umop.training.words import program

    monkeypatch.setattr(sys, "argv", ["train_net.py", "--epochs", "1"])
    assert (program("train"), program("predict")) == (
        "python train_net.py",
        "python tools/predict.py",
    )
    monkeypatch.setattr(sys, "argv", ["libra-umop train", "--epochs", "1"])
    assert (program("train"), program("predict")) == ("libra-umop train", "libra-umop predict")


@pytest.fixture(scope="module")
def without_detectron2(tmp_path_factory, repo):
    """Python of an environment with what is installed here but Detectron2."""
    folder = tmp_path_factory.mktemp("without")
    (folder / "detectron2_is_hidden.py").write_text(
        "import importlib.machinery as m\n"
        "find = m.PathFinder.find_spec\n"
        "def without(name, path=None, target=None):\n"
        "    return None if name.split('.')[0] == 'detectron2' else find(name, path, target)\n"
        "m.PathFinder.find_spec = without\n"
    )

    def run(code):
        hide = f"import sys; sys.path.insert(0, {str(folder)!r}); import detectron2_is_hidden\n"
        command = [sys.executable, "-c", hide + code]
        return subprocess.run(command, capture_output=True, text=True)

    return run


@pytest.mark.parametrize(
    "statement",
    [
        "import libra_umop; libra_umop.LibraTrainer",
        "from libra_umop import get_config",
        "import libra_umop.config.keys",
        "import libra_umop.modeling",
        "from libra_umop.evaluation import coco",
    ],
)
def test_without_detectron2_an_import_says_how_to_get_it(without_detectron2, statement):
    done = without_detectron2(statement)
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 1 and last.startswith("ModuleNotFoundError: Detectron2 is not")
    assert "tools/install_detectron2.py" in last
    assert "https://detectron2.readthedocs.io" in last


def test_without_detectron2_a_command_says_so_in_one_line(without_detectron2):
    for argv in (["train", "--config-file", "x"], ["export", "--weights", "x", "--format", "onnx"]):
        code = f"from libra_umop.cli.__main__ import main; sys.exit(main({argv!r}))"
        done = without_detectron2(code)
        assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
        assert done.stderr.startswith("Detectron2 is not installed; ")


def test_without_detectron2_functions_and_help_work(without_detectron2):
    done = without_detectron2(
        "from libra_umop.functional import *\n"
        "assert atss_match and 'libra_umop.config.keys' not in sys.modules\n"
        "from libra_umop.cli.__main__ import main; main(['train', '--help'])"
    )
    assert done.returncode == 0 and "usage" in done.stdout, done.stderr


def test_the_package_says_that_it_is_typed():
    assert Path(libra_umop.__file__).with_name("py.typed").is_file()
