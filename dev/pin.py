#!/usr/bin/env python3
"""Write constraints.txt: what pip resolves today for each supported Python, as exact pins.

Run it with the interpreters python3.10, python3.11 and python3.12 on the PATH. A version that
differs between them gets an environment marker; later Pythons take what 3.12 takes. The direct pins
below are the ones that were tried together; everything else follows from them and from setup.cfg.
"""

import argparse
import configparser
import json
import subprocess
from collections import defaultdict
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
PYTHONS = ("3.10", "3.11", "3.12")
DIRECT_PINS = [
    "torch==2.14.1",
    "torchvision==0.29.1",
    "pycocotools==2.0.11",
    "fvcore==0.1.5.post20221221",
    "iopath==0.1.9",
    "yacs==0.1.8",
    "omegaconf>=2.3,<2.4",
    "hydra-core>=1.3,<1.4",
    # Required by the Detectron2 wheel, see tools/install_detectron2.py.
    *("matplotlib", "termcolor", "cloudpickle", "tensorboard", "packaging"),
]


def requirements() -> list[str]:
    """All that setup.cfg asks for, its extras included, besides the direct pins."""
    setup = configparser.ConfigParser()
    setup.read(REPO / "setup.cfg")
    groups = [setup["options"]["install_requires"], *setup["options.extras_require"].values()]
    return [line for group in groups for line in group.split("\n") if line.strip()] + DIRECT_PINS


def resolve(python: str) -> dict[str, str]:
    """Name -> version of everything that pip would install with ``python``."""
    command = [f"python{python}", "-m", "pip", "install", "--quiet", "--dry-run"]
    command += ["--ignore-installed", "--report", "-", *requirements()]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    packages = [item["metadata"] for item in json.loads(done.stdout)["install"]]
    return {p["name"].lower().replace("_", "-"): p["version"] for p in packages}


def marker_of(pythons: list[str]) -> str:
    """Of a version that these Pythons, a part of PYTHONS, have; later ones are like the last."""
    if pythons == list(PYTHONS[-len(pythons) :]):
        return f'python_version >= "{pythons[0]}"'
    return " or ".join(f'python_version == "{python}"' for python in pythons)


def main() -> None:
    """Resolve for every Python, and write constraints.txt."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    pythons_by_pin: dict[tuple[str, str], list[str]] = defaultdict(list)
    for python in PYTHONS:
        for name, version in resolve(python).items():
            pythons_by_pin[name, version].append(python)
    lines = ["# Written by dev/pin.py: exact versions for Python 3.10 to 3.14."]
    for (name, version), pythons in sorted(pythons_by_pin.items()):
        marker = marker_of(pythons)
        lines.append(f"{name}=={version}" + ("" if len(pythons) == len(PYTHONS) else f"; {marker}"))
    (REPO / "constraints.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
