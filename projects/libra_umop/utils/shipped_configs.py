"""Where the configs that come with the project lie, in a checkout and in an installed wheel."""

import os
from pathlib import Path, PurePosixPath

__all__ = ["find_config", "shipped_config", "shipped_names"]

_PACKAGE = Path(__file__).resolve().parents[1]
# The wheel's own copy (setup.py makes it), else configs/ beside projects/ of a checkout.
_FOLDERS = (_PACKAGE / "_configs", _PACKAGE.parents[1] / "configs")


def find_config(config_file: str) -> str:
    """``config_file`` itself, or where there is no such file the shipped one of that name."""
    if "://" in config_file or os.path.exists(config_file):
        return config_file
    return str(shipped_config(config_file) or config_file)


def shipped_config(name: str) -> Path | None:
    """The file of a name below ``configs/``, with or without that word; None if there is none."""
    parts = PurePosixPath(name).parts
    parts = parts[1:] if parts[:1] == ("configs",) else parts
    if ".." in parts or name.startswith("/"):
        return None
    paths = (folder.joinpath(*parts) for folder in _FOLDERS)
    return next((path for path in paths if path.is_file()), None)


def shipped_names() -> list[str]:
    """Of all shipped configs, below ``configs/``."""
    return [p.relative_to(root).as_posix() for root in _FOLDERS for p in root.rglob("*.yaml")]
