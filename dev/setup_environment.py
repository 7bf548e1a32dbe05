#!/usr/bin/env python3
"""Make the Python environment that the Makefile's other targets run in.

A folder that already holds an environment with torch and Detectron2 is used as it is: nothing in it
is changed, what this project still lacks is added. Otherwise a virtual environment is made there
with the exact versions of constraints.txt. What a finished set-up was made from is remembered, so a
second call returns at once; an interrupted one is picked up where pip left off.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
INPUTS = ("constraints.txt", "setup.cfg", "pyproject.toml", "tools/install_detectron2.py")
STAMP = "libra-umop-setup.json"

# Runs inside an environment of somebody else's: prints which requirements of ours it lacks.
LIST_MISSING = """
import importlib.util, json, sys
from importlib.metadata import PackageNotFoundError, distribution, requires
from pip._vendor.packaging.requirements import Requirement
missing = []
for line in requires("libra-umop"):
    requirement = Requirement(line)
    wanted = not requirement.marker or any(
        requirement.marker.evaluate({"extra": extra}) for extra in ["", *sys.argv[1:]])
    opencv = requirement.name.startswith("opencv") and importlib.util.find_spec("cv2")
    try:
        fits = distribution(requirement.name).version in requirement.specifier
    except PackageNotFoundError:
        fits = False
    if wanted and not fits and not opencv:
        missing.append(f"{requirement.name}{requirement.specifier}")
print(json.dumps(missing))
"""


class SetupError(Exception):
    """What went wrong, in one line for the person at the keyboard."""


def run(command: list, **kwargs) -> subprocess.CompletedProcess:
    """Run ``command``; SetupError with its words if it fails."""
    command = [str(part) for part in command]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, text=True, **kwargs)
    if done.returncode != 0:
        raise SetupError(f"exit code {done.returncode} of this command: {' '.join(command)}")
    return done


def say(text: str) -> None:
    """Print a line of the set-up."""
    print(f"[set-up] {text}", flush=True)


def digest(python_version: str) -> str:
    """What a finished set-up depends on; it changes when any of the inputs does."""
    state = hashlib.sha256(f"{REPO}\n{python_version}\n".encode())
    for name in INPUTS:
        state.update((REPO / name).read_bytes())
    return state.hexdigest()


def is_done(venv: Path, extras: list[str]) -> bool:
    """Whether an earlier call finished with the same inputs and at least these extras."""
    try:
        stamp = json.loads((venv / STAMP).read_text())
        up_to_date = stamp["digest"] == digest(stamp["python"])
        return up_to_date and set(extras) <= set(stamp["extras"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def write_stamp(venv: Path, extras: list[str], *, ours: bool) -> None:
    """Remember, atomically, that the set-up is whole."""
    version = platform.python_version()
    stamp = {"digest": digest(version), "python": version, "extras": extras, "ours": ours}
    partial = venv / f"{STAMP}.partial"
    partial.write_text(json.dumps(stamp))
    os.replace(partial, venv / STAMP)


def is_foreign(venv: Path) -> bool:
    """Whether ``venv`` is an environment of somebody else's with torch and Detectron2 in it."""
    python = venv / "bin" / "python"
    if not python.exists() or (venv / f"{STAMP}.ours").exists():
        return False
    probe = "import importlib.util as u; assert u.find_spec('torch') and u.find_spec('detectron2')"
    return subprocess.run([str(python), "-c", probe], stderr=subprocess.DEVNULL).returncode == 0


def use_foreign(venv: Path, extras: list[str]) -> None:
    """Add this project and what it lacks to ``venv``, changing nothing that is installed there."""
    python = venv / "bin" / "python"
    say(f"{venv} has torch and Detectron2: it is used as it is")
    run([python, "-m", "pip", "install", "--quiet", "--no-deps", "--editable", REPO])
    listing = run([python, "-c", LIST_MISSING, *extras], stdout=subprocess.PIPE).stdout
    missing = json.loads(listing)
    if not missing:
        return
    say(f"adding {', '.join(missing)}")
    freeze = [python, "-m", "pip", "freeze", "--exclude-editable"]
    frozen = run(freeze, stdout=subprocess.PIPE).stdout
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as present:
        present.write("\n".join(line for line in frozen.splitlines() if "==" in line) + "\n")
        present.flush()
        run([python, "-m", "pip", "install", "--quiet", "--constraint", present.name, *missing])


def make_own(venv: Path, extras: list[str]) -> None:
    """Make ``venv`` with the pinned versions, or finish one that was interrupted."""
    low, high = (3, 10), (3, 14)
    if not low <= sys.version_info[:2] <= high:
        raise SetupError(f"Python {platform.python_version()} is not supported: use 3.10 to 3.14")
    python = venv / "bin" / "python"
    pip = [python, "-m", "pip", "install", "--constraint", REPO / "constraints.txt"]
    if not python.exists() or not (venv / "bin" / "pip").exists():
        say(f"making the virtual environment {venv}")
        try:
            run([sys.executable, "-m", "venv", venv])
        except SetupError as error:
            hint = "on Debian, `apt-get install python3-venv` may help"
            raise SetupError(f"{error}; {hint}") from error
    (venv / f"{STAMP}.ours").touch()
    run([*pip, "--quiet", "setuptools"])
    say("installing torch and torchvision (about 2 GB to download, 5.5 GB on the disk)")
    run([*pip, "torch", "torchvision"], stdout=None if sys.stdout.isatty() else subprocess.DEVNULL)
    say("installing Detectron2")
    run([python, REPO / "tools" / "install_detectron2.py"])
    say(f"installing this project, editable, with the extras {', '.join(extras) or 'none'}")
    target = f"{REPO}[{','.join(extras)}]" if extras else str(REPO)
    run([*pip, "--quiet", "--no-build-isolation", "--editable", target])


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The arguments of the script."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("venv", type=Path, help="folder of the environment")
    parser.add_argument("--extras", default="", help="extras of setup.cfg, separated by commas")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code: 0 when the environment is ready, else 1."""
    args = parse_args(argv)
    venv = args.venv.absolute()
    extras = sorted(filter(None, args.extras.split(",")))
    if is_done(venv, extras):
        return 0
    try:
        if ours := not is_foreign(venv):
            make_own(venv, extras)
        else:
            use_foreign(venv, extras)
        write_stamp(venv, extras, ours=ours)
    except SetupError as error:
        print(f"setup_environment: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        say("interrupted; the next call goes on from here")
        return 130
    say("ready")
    return 0


if __name__ == "__main__":
    sys.exit(main())
