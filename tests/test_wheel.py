"""A wheel in an environment of its own, outside the checkout, trains, predicts and exports."""

import os
import shutil
import subprocess
import sys
import sysconfig

import pytest

SOURCES = [
    "LICENSE",
    "MANIFEST.in",
    "README.md",
    "pyproject.toml",
    "setup.cfg",
    "setup.py",
    "configs",
    "projects",
]
CONFIG = "quick/umop_atss_R_18_FPN_shapes.yaml"
SHORT = "SOLVER.MAX_ITER 2 SOLVER.IMS_PER_BATCH 2 SOLVER.REFERENCE_WORLD_SIZE 0 MODEL.DEVICE cpu"
SHORT += " DATALOADER.NUM_WORKERS 0 INPUT.MIN_SIZE_TRAIN (64,) INPUT.MIN_SIZE_TEST 64"


@pytest.fixture(scope="module")
def run(repo, tmp_path_factory):
    """Runs a program of the environment in an empty folder; gives its stdout."""
    folder = tmp_path_factory.mktemp("wheel")
    wheel = build_wheel(repo, folder)
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    python = folder / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]
    pip += ["install", "--quiet", "--no-deps", "--no-index", wheel]
    subprocess.run(pip, check=True, env=env)
    # What it requires is lent by the environment of the tests, whose editable install is not: its
    # .pth is read only where a site-packages is one by itself.
    site = next((folder / "venv").glob("lib/python*/site-packages"))
    (site / "lent.pth").write_text(sysconfig.get_paths()["purelib"])
    (folder / "empty").mkdir()

    def run(program, *argv):
        command = [python.with_name(program), *map(str, argv)]
        done = subprocess.run(
            command, cwd=folder / "empty", env=env, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    return run


def build_wheel(repo, folder):
    """The wheel of a copy of the sources: building leaves files in its folder."""
    sources = folder / "sources"
    sources.mkdir()
    for name in SOURCES:
        copy = shutil.copytree if (repo / name).is_dir() else shutil.copy
        copy(repo / name, sources / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet"]
    pip += ["--no-deps", "--no-build-isolation", "--wheel-dir", folder, sources]
    subprocess.run(pip, check=True)
    (wheel,) = folder.glob("libra_umop-*.whl")
    return wheel


def test_it_holds_every_config_of_the_checkout_and_nothing_of_the_checkout_is_read(run, repo):
    code = f"""
import pathlib, libra_umop
here = pathlib.Path(libra_umop.__file__).parent
assert {str(repo)!r} not in str(here), here
print(*sorted(str(p.relative_to(here / "_configs")) for p in here.glob("_configs/**/*.yaml")))
print(libra_umop.get_config({CONFIG!r}).MODEL.META_ARCHITECTURE, (here / "py.typed").is_file())
"""
    names, built = run("python", "-c", code).strip().splitlines()
    configs = repo / "configs"
    assert names.split() == sorted(str(p.relative_to(configs)) for p in configs.rglob("*.yaml"))
    assert built == "UMOPATSS True"


def test_it_holds_the_templates_and_the_style_of_the_pages(run, repo):
    package = repo / "projects" / "libra_umop"
    here = "pathlib.Path(libra_umop.__file__).parent"
    code = f"import pathlib, libra_umop; print(*{here}.rglob('*.[hc][ts][ms]*'), sep='\\n')"
    wheel = {path.rsplit("/libra_umop/", 1)[1] for path in run("python", "-c", code).split()}
    assert "imbalance/report/templates/page.css" in wheel
    checkout = {p.relative_to(package) for p in package.rglob("*") if p.suffix in (".html", ".css")}
    assert wheel == set(map(str, checkout))


def test_it_trains_predicts_and_exports(run, tmp_path):
    drawn = ["--num-train", 4, "--num-val", 2, "--size", 64]
    run("libra-umop", "shapes", "--output", tmp_path / "shapes", *drawn)
    out, weights = tmp_path / "out", tmp_path / "out" / "model_final.pth"
    said = run(
        "libra-umop",
        *("train", "--config-file", CONFIG, "--dataset", tmp_path / "shapes"),
        *(*SHORT.split(), "OUTPUT_DIR", out),
    )
    assert weights.is_file() and f"  libra-umop predict --weights {weights}" in said
    photos = tmp_path / "shapes" / "images"
    run("libra-umop", "predict", photos, "--weights", weights, "--json", tmp_path / "found.json")
    assert (tmp_path / "found.json").is_file()
    sheet = ["--weights", weights, "--dataset", tmp_path / "shapes"]
    run("libra-umop", "sheet", *sheet, "--output", tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").is_file()
    run(
        "libra-umop",
        *("export", "--weights", weights, "--format", "torchscript", "--sizes", "64x96"),
        *("--output", tmp_path / "detector.ts"),
    )
    assert (tmp_path / "detector.ts").is_file()
