"""The Dockerfile and its build script, as far as they can be checked without building."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest


@pytest.fixture(scope="module")
def instructions(request):
    """[(instruction, arguments)] of the Dockerfile."""
    text = (request.config.rootpath / "Dockerfile").read_text()
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line.strip()]


def values(instructions, name):
    return [arguments for instruction, arguments in instructions if instruction == name]


def test_entrypoint_is_training_itself_and_gets_the_signals(instructions):
    assert json.loads(values(instructions, "ENTRYPOINT")[-1]) == ["python", "train_net.py"]
    assert json.loads(values(instructions, "CMD")[-1]) == ["--help"]


def test_user_is_a_number_that_is_not_root(instructions):
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", values(instructions, "USER")[-1])


def test_dependencies_are_installed_before_the_sources_are_copied(instructions):
    sources = instructions.index(("COPY", ". ."))
    installs = [i for i, (name, what) in enumerate(instructions) if "--constraint" in what]
    assert installs and max(installs) < sources
    later = " ".join(values(instructions[sources:], "RUN"))
    assert "--no-deps" in later


def test_no_package_manager_brings_a_compiler(instructions):
    commands = " ".join(values(instructions, "RUN"))
    assert not re.search(r"apt|apk|dnf|gcc|g\+\+|build-essential", commands)


def test_caches_lie_where_any_user_may_write(instructions):
    env = " ".join(values(instructions, "ENV"))
    home = re.search(r"\bHOME=(\S+)", env)[1]
    for name in ("FVCORE_CACHE", "TORCH_HOME", "MPLCONFIGDIR", "TRITON_CACHE_DIR"):
        assert re.search(rf"\b{name}=(\S+)", env)[1].startswith(home + "/")
    assert any(f"-m 1777 output {home}" in run for run in values(instructions, "RUN"))


def test_all_that_is_copied_exists_and_is_not_ignored(instructions, repo):
    ignored = (repo / ".dockerignore").read_text().splitlines()
    kept = {line[1:] for line in ignored if line.startswith("!")}
    assert "*" in ignored
    for arguments in values(instructions, "COPY"):
        for source in arguments.split()[:-1]:
            assert (repo / source).exists()
            assert source == "." or source.split("/")[0] in kept
    assert all((repo / name).exists() for name in kept)


@pytest.mark.parametrize(
    "tool, arguments",
    [
        ("hadolint", ["Dockerfile"]),
        ("shellcheck", ["dev/build_image.sh", "dev/try_slurm.sh", "deploy/slurm/train.sbatch"]),
    ],
)
def test_linter_has_nothing_to_say(repo, tool, arguments):
    path = shutil.which(tool, path=f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}")
    if path is None:
        pytest.skip(f"{tool} is not installed; the dev extra has it")
    done = subprocess.run([path, *arguments], cwd=repo, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def run_build(repo, *arguments, **env):
    command = [str(repo / "dev" / "build_image.sh"), *arguments]
    return subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True)


def test_build_script_explains_itself(repo):
    done = run_build(repo, "--help")
    assert done.returncode == 0 and "--debootstrap" in done.stdout
    done = run_build(repo, "--nonsense")
    assert done.returncode == 2 and "--nonsense" in done.stderr


def test_build_script_says_when_there_is_no_builder(repo, tmp_path):
    for tool in ("bash", "dirname", "env"):
        (tmp_path / tool).symlink_to(shutil.which(tool))
    done = run_build(repo, PATH=str(tmp_path))
    assert done.returncode == 3
    assert "podman and buildah is here (Debian: apt-get install buildah)" in done.stderr


def test_build_hands_on_what_is_set_and_nothing_else(repo, tmp_path):
    """With a stand-in for docker that writes its arguments down."""
    docker = tmp_path / "docker"
    docker.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >>{tmp_path}/arguments\n')
    docker.chmod(0o755)
    bundle = tmp_path / "ca.crt"
    bundle.touch()
    path = f"{tmp_path}:{os.environ['PATH']}"
    options = ["--builder", "docker", "--tag", "here:1", "--base", "mine", "--no-try"]
    env = {"PATH": path, "PIP_INDEX_URL": "https://index", "HTTP_PROXY": ""}
    done = run_build(repo, *options, "--ca-bundle", str(bundle), **env)
    assert done.returncode == 0, done.stderr
    arguments = (tmp_path / "arguments").read_text().splitlines()
    assert {"BASE_IMAGE=mine", "PIP_INDEX_URL=https://index", "here:1"} <= set(arguments)
    assert f"id=ca,src={bundle}" in arguments and "PIP_CERT=/run/secrets/ca.crt" in arguments
    assert not any(argument.startswith("HTTP_PROXY") for argument in arguments)
