"""Checkpoints that are whole or absent, that hold all of a run, and that run nothing when read."""

import contextlib
import glob
import os
import re
import shutil
import tempfile
from typing import Any, Callable, Dict, List, Optional, Tuple

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode, get_cfg
from detectron2.data import MetadataCatalog
from detectron2.utils import comm

from ..config import add_libra_umop_config
from .config_io import merge_text
from .errors import ConfigError
from .safe_load import safe_pickle_load, safe_torch_load

__all__ = ["LibraCheckpointer", "atomic_write", "read_run", "safe_torch_load"]


def read_run(weights_path: str) -> Tuple[Optional[CfgNode], Optional[List[str]]]:
    """The config and the class names that a checkpoint of this project holds.

    Args:
        weights_path: a local checkpoint; nothing in it is executed.

    Returns:
        ``(cfg, class_names)``, each None where the file does not hold it.

    Raises:
        ConfigError: the file is refused or not whole.
    """
    if weights_path.endswith(".pkl"):
        return None, None
    checkpoint = safe_torch_load(weights_path)
    cfg = None
    if isinstance(checkpoint, dict) and isinstance(checkpoint.get("config"), str):
        cfg = get_cfg()
        add_libra_umop_config(cfg)
        merge_text(cfg, checkpoint["config"], weights_path)
    names = checkpoint.get("class_names") if isinstance(checkpoint, dict) else None
    return cfg, list(names) if names else None


def atomic_write(path: str, write: Callable[[Any], None]) -> None:
    """Write a file so that it is whole or not there at all, through a crash or a power cut too.

    Args:
        path: of the file; its folder exists.
        write: given the open binary file.
    """
    folder = os.path.dirname(path) or "."
    fd, temporary = tempfile.mkstemp(dir=folder, prefix=f".{os.path.basename(path)}.")
    try:
        with os.fdopen(fd, "wb") as f:
            write(f)
            f.flush()
            os.fsync(f.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp's files are private
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    _sync_folder(folder)


def atomic_link(path: str, existing: str) -> None:
    """Make ``path`` a second name of the file ``existing`` of the same folder, or a copy of it
    where the file system has no hard links; an older ``path`` is there until the new one is."""
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name}.link")
    with contextlib.suppress(FileNotFoundError):  # of a process that was killed
        os.unlink(temporary)
    try:
        os.link(existing, temporary)
    except OSError:
        with open(existing, "rb") as source:
            atomic_write(path, lambda f: shutil.copyfileobj(source, f))
        return
    os.replace(temporary, path)
    with contextlib.suppress(FileNotFoundError):  # rename leaves it where both were one file
        os.unlink(temporary)
    _sync_folder(folder or ".")


def _sync_folder(folder: str) -> None:
    """Have a folder's new names written to the disk, where the system can open a folder."""
    if os.name == "nt":
        return
    folder_fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(folder_fd)
    finally:
        os.close(folder_fd)


class LibraCheckpointer(DetectionCheckpointer):
    """Same interface as :class:`detectron2.checkpoint.DetectionCheckpointer`.

    Files are written whole or not at all, and read without executing anything. Beside Detectron2's
    keys they hold ``"config"`` (YAML) and ``"class_names"`` (list[str]).

    Args:
        model: as there.
        save_dir: as there; a local folder.
        cfg: of the run; None writes neither config nor class names.
        average: an averaged copy of ``model`` that takes its place under ``"model"``; the weights
            that training goes on with are then under ``"training_model"``.
        checkpointables: as there. Their ``state_dict`` is called on all ranks.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        save_dir: str = "",
        *,
        cfg: Optional[CfgNode] = None,
        average: Optional[torch.nn.Module] = None,
        **checkpointables: Any,
    ):
        super().__init__(model, save_dir, **checkpointables)
        self.cfg = cfg
        self.average = average
        self._resuming = False

    def save(self, name: str, **kwargs: Any) -> None:
        """Write all of the run as ``name``.pth and note it as the last; call it on all ranks."""
        states = {key: obj.state_dict() for key, obj in self.checkpointables.items()}
        if self.average is not None:
            states["training_model"] = self.model.state_dict()
        if self._write(name, {**states, **kwargs}):
            self.tag_last_checkpoint(f"{name}.pth")
            self._remove_older(name)

    def save_as(self, name: str, saved: str) -> None:
        """Give what was just saved as ``saved``.pth the name ``name``.pth too, as the last one."""
        if self.save_dir and self.save_to_disk:
            folder = self.save_dir
            atomic_link(os.path.join(folder, f"{name}.pth"), os.path.join(folder, f"{saved}.pth"))
            self.tag_last_checkpoint(f"{name}.pth")

    def save_weights(self, name: str, **kwargs: Any) -> None:
        """Write ``name``.pth to predict with, not to resume from; the last checkpoint stays it."""
        self._write(name, kwargs)

    def _write(self, name: str, states: Dict[str, Any]) -> bool:
        if not self.save_dir or not self.save_to_disk:
            return False
        weights = self.model if self.average is None else self.average
        data = {"model": weights.state_dict(), **states, **_about_run(self.cfg)}
        path = os.path.join(self.save_dir, f"{name}.pth")
        self.logger.info(f"Saving checkpoint to {path}")
        os.makedirs(self.save_dir, exist_ok=True)
        atomic_write(path, lambda f: torch.save(data, f))
        return True

    def _remove_older(self, name: str) -> None:
        """After ``name`` = model_<iteration>, leave the newest ``SOLVER.CHECKPOINT_KEEP`` of its
        kind. Those of later iterations, of before a fallback, are left to be overwritten."""
        keep = self.cfg.SOLVER.CHECKPOINT_KEEP if self.cfg is not None else 0
        newest = _iteration_of(name)
        if keep <= 0 or newest is None:
            return
        files = {_iteration_of(f): f for f in os.listdir(self.save_dir) if f.endswith(".pth")}
        older = sorted(i for i in files if i is not None and i <= newest)
        for iteration in older[:-keep]:
            os.unlink(os.path.join(self.save_dir, files[iteration]))

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Note the name of the last checkpoint."""
        path = os.path.join(self.save_dir, "last_checkpoint")
        atomic_write(path, lambda f: f.write(last_filename_basename.encode()))

    def resume(self) -> Optional[Dict[str, Any]]:
        """Restore the run from the last whole checkpoint of ``save_dir``.

        Returns:
            what the checkpoint holds beside the restored; None if there is no whole one.
        """
        path = comm.all_gather(self.last_whole_checkpoint() if comm.is_main_process() else "")[0]
        return self.load(path) if path else None

    def last_whole_checkpoint(self) -> str:
        """Path of the newest checkpoint that can be read and resumed from; "" if there is none."""
        for path in self._candidates():
            try:
                if "trainer" in safe_torch_load(path, mmap=True):
                    return path
                reason = "it holds weights only"
            except ConfigError as e:
                reason = str(e)
            self.logger.warning(f"Not resuming from {path}: {reason}")
        return ""

    def remove_half_written(self) -> None:
        """Remove what a process that was killed while writing left behind."""
        if self.save_to_disk:
            for path in glob.glob(os.path.join(glob.escape(self.save_dir), ".model_*.pth.*")):
                os.unlink(path)

    def _candidates(self) -> List[str]:
        """The noted last checkpoint, then the others from the newest to the oldest."""
        files = glob.glob(os.path.join(glob.escape(self.save_dir), "model_*.pth"))
        files = [f for f in files if re.search(r"model_(\d+|final)\.pth$", f)]
        files.sort(key=os.path.getmtime, reverse=True)
        noted = self.get_checkpoint_file()
        if noted and noted not in files:
            name = os.path.basename(noted) or "nothing"
            self.logger.warning(f"last_checkpoint names {name}, which is not there")
        return sorted(files, key=lambda f: f != noted)

    def load(self, path: str, checkpointables: Optional[List[str]] = None) -> Dict[str, Any]:
        """Load ``path``; same interface as ``DetectionCheckpointer.load``.

        Raises:
            ConfigError: the file cannot be had, is refused or is not whole.
        """
        self._resuming = checkpointables is None
        if path:
            self._find(path)
        return super().load(path, checkpointables)

    def _find(self, path: str) -> None:
        """Fetch ``path`` if need be, and say how to do without it if that fails."""
        try:
            local = self.path_manager.get_local_path(path.split("?")[0])
            if os.path.isfile(local):
                return
            reason = "no such file"
        except (OSError, RuntimeError, KeyError, ValueError, AssertionError) as e:
            reason = f"cannot be fetched: {' '.join(str(e).split())}"
        raise ConfigError(
            f"MODEL.WEIGHTS is {path!r}: {reason}. Give a file, MODEL.WEIGHTS /path/to/weights.pkl,"
            f' or train from scratch with MODEL.WEIGHTS ""'
        )

    def _load_file(self, filename: str) -> Dict[str, Any]:
        if filename.endswith(".pkl"):
            return _as_checkpoint(safe_pickle_load(filename), filename)
        if filename.endswith(".pyth"):
            weights = safe_torch_load(filename).get("model_state")
            if weights is None:
                raise ConfigError(f"{filename}: has no 'model_state', as pycls's .pyth files have")
            weights = {k: v for k, v in weights.items() if not k.endswith("num_batches_tracked")}
            return {"model": weights, "__author__": "pycls", "matching_heuristics": True}
        return super()._load_file(filename)

    def _torch_load(self, f: str) -> Dict[str, Any]:
        return safe_torch_load(f)

    def _load_model(self, checkpoint: Dict[str, Any]):
        training_model = checkpoint.pop("training_model", None)
        if self._resuming and training_model is not None:
            if self.average is not None:
                self.average.load_state_dict(checkpoint["model"])
            checkpoint["model"] = training_model
        return super()._load_model(checkpoint)


def _iteration_of(name: str) -> Optional[int]:
    """Of a periodic checkpoint, ``model_<iteration>`` with or without ``.pth``; None of others."""
    match = re.fullmatch(r"model_(\d+)(\.pth)?", name)
    return int(match[1]) if match else None


def _as_checkpoint(data: Any, filename: str) -> Dict[str, Any]:
    """A model zoo's ``.pkl`` in the form of a checkpoint: Detectron2's own, or Caffe2's blobs."""
    if not isinstance(data, dict):
        raise ConfigError(f"{filename}: holds a {type(data).__name__}, should hold weights by name")
    if "model" in data and "__author__" in data:
        return data
    blobs = data.get("blobs", data)
    weights = {k: v for k, v in blobs.items() if not k.endswith("_momentum")}
    return {"model": weights, "__author__": "Caffe2", "matching_heuristics": True}


def _about_run(cfg: Optional[CfgNode]) -> Dict[str, Any]:
    """What predicting needs to know beside the weights."""
    if cfg is None:
        return {}
    about: Dict[str, Any] = {"config": cfg.dump()}
    if cfg.DATASETS.TRAIN:
        names = MetadataCatalog.get(cfg.DATASETS.TRAIN[0]).get("thing_classes")
        if names:
            about["class_names"] = [str(name) for name in names]
    return about
