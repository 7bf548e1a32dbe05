"""One OUTPUT_DIR for one run: what a run left there is neither mixed with nor replaced by another.

As in Detectron2, OUTPUT_DIR is where a run's files are, under names that scripts rely on, so a used
one is refused rather than evaded: ``--resume`` goes on with its run, ``--overwrite`` replaces it.
"""

import os
import re
import shutil
from pathlib import Path

from detectron2.utils import comm

from ..errors import ConfigError
from ..utils.output_files import check_writable_folder

# By these a run is known. Not by what an evaluation or a tool leaves: log.txt, config.yaml,
# inference/, annotations/, pictures, reports.
TRACES = ("model_*.pth", "last_checkpoint", "metrics.json", "imbalance", "events.out.tfevents.*")
# These go with it, as they would be taken for the next run's.
BELONGINGS = (*TRACES, "inference", "wandb_id")


def iteration_of(name: str) -> int | None:
    """Of a periodic checkpoint, ``model_<iteration>`` with or without ``.pth``; None of others."""
    match = re.fullmatch(r"model_(\d+)(\.pth)?", name)
    return int(match[1]) if match else None


def traces_of_run(folder: str) -> list[str]:
    """Names of the files and folders by which a run in ``folder`` is known; [] where none was."""
    return [path.name for path in _find(folder, TRACES)]


def claim_output_dir(folder: str, *, resume: bool = False, overwrite: bool = False) -> str:
    """Make ``folder`` and see that a run may write to it; call it on all ranks, before loggers are.

    Nothing is removed yet, see :func:`clear_output_dir`. The main rank looks and all agree.

    Args:
        folder: OUTPUT_DIR.
        resume: the run in it, if any, goes on.
        overwrite: the run in it, if any, will be replaced; ``resume`` wins, as a scheduler adds
            that one to the command that it starts again.

    Returns:
        a line to print: what becomes of the folder.

    Raises:
        ConfigError: it holds a run, or cannot be written to.
    """
    said = ("", "")
    if comm.is_main_process():
        try:
            said = "", _claim(folder, resume, overwrite)
        except ConfigError as e:
            said = str(e), ""
    error, line = comm.all_gather(said)[0]
    if error:
        raise ConfigError(error)
    return line


def clear_output_dir(folder: str) -> None:
    """Remove the run that is in ``folder``."""
    for path in _find(folder, BELONGINGS):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def set_run_aside(folder: str) -> str:
    """Move the run that is in ``folder`` to a new folder below it.

    Returns:
        that folder; "" where there was nothing to move.
    """
    if not traces_of_run(folder):
        return ""
    aside = Path(free_folder(os.path.join(folder, "aborted")))
    aside.mkdir()
    for path in _find(folder, BELONGINGS):
        path.rename(aside / path.name)
    return str(aside)


def free_folder(folder: str) -> str:
    """``folder``, or with the first number behind it, ``folder_2``, that is not there or empty."""
    number, free = 1, folder
    while os.path.lexists(free) and not (os.path.isdir(free) and not os.listdir(free)):
        number += 1
        free = f"{folder}_{number}"
    return free


def _find(folder: str, patterns) -> list[Path]:
    """What matches and is not empty, as a file that was only opened is."""
    found = [path for pattern in patterns for path in sorted(Path(folder).glob(pattern))]
    return [p for p in found if (any(p.iterdir()) if p.is_dir() else p.lstat().st_size)]


def _claim(folder: str, resume: bool, overwrite: bool) -> str:
    try:
        check_writable_folder(folder)
    except OSError as e:
        raise ConfigError(f"OUTPUT_DIR is {folder!r}, which {e.strerror}") from e
    traces = traces_of_run(folder)
    if not traces:
        return f"OUTPUT_DIR is {folder}, for a new run"
    if resume:
        return f"OUTPUT_DIR is {folder}, with a run to go on with (--resume)"
    if overwrite:
        return f"OUTPUT_DIR is {folder}, whose run will be replaced (--overwrite)"
    names = ", ".join(traces[:3]) + (" ..." if len(traces) > 3 else "")
    raise ConfigError(
        f"OUTPUT_DIR is {folder!r}, which holds a run ({names}): go on with it by --resume, give"
        " another OUTPUT_DIR, or replace it by --overwrite"
    )
