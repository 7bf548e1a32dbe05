"""Checkpoints that are whole or absent, that hold all of a run, and that run nothing when read."""

import glob
import logging
import os
import re
from collections.abc import Sequence
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.utils import comm

from ...errors import ConfigError
from ...utils.atomic_files import atomic_link, atomic_write
from ...utils.ranks import heard_by_all_ranks
from ...utils.safe_load import safe_torch_load, safe_zoo_load
from ..output_dir import iteration_of
from .run_content import about_run
from .weight_fit import (
    Classes,
    Fit,
    check_weights,
    current_names,
    require_same_classes,
    require_weights,
)

logger = logging.getLogger(__name__)

__all__ = ["LibraCheckpointer"]

# What to do about weights that do not fit, by what they are loaded for.
TO_USE = "Give the weights that this config trained, or the config that trained these"
TO_RESUME = (
    "--resume goes on with the same model and classes; to start from these weights give"
    " MODEL.WEIGHTS and another OUTPUT_DIR"
)


class LibraCheckpointer(DetectionCheckpointer):
    """Same interface as :class:`detectron2.checkpoint.DetectionCheckpointer`.

    Files are written whole or not at all, and read without executing anything. What is loaded for
    is said by the method: :meth:`load` starts training from what fits, :meth:`load_all` loads what
    is predicted with, :meth:`resume` goes on with a run.

    The format is a dict, written by ``torch.save``:

    - ``"model"``: dict[str, Tensor], the weights to predict with: with averaging the average.
      Names are the same with and without a BFP, see there.
    - ``"training_model"``: with averaging only, the weights that training goes on with.
    - ``"config"``: str, the run's config as YAML.
    - ``"class_names"``: list[str], by label, what output 0, 1, ... of the model stands for.
    - ``"class_ids"``: list[int], by label, the category ids of the training annotations.
    - ``"iteration"``: int, the last that was done, from 0.
    - ``"trainer"``: what training goes on from; absent in files to predict with only.

    All but ``"model"`` may be absent. Version 0.1.0 wrote no ``"class_ids"``.

    Args:
        model, save_dir: as there; a local folder.
        cfg: of the run; None writes neither config nor classes.
        average: an averaged copy of ``model`` that takes its place under ``"model"``. It starts
            from what is loaded into ``model`` where a file holds no average.
        checkpointables: as there. Their ``state_dict`` is called on all ranks.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        save_dir: str = "",
        *,
        cfg: CfgNode | None = None,
        average: torch.nn.Module | None = None,
        **checkpointables: Any,
    ):
        super().__init__(model, save_dir, **checkpointables)
        self.cfg = cfg
        self.average = average
        self._resuming = False
        self._demand = ""  # what to do about a file that does not fit entirely; "" allows it
        self._datasets: Sequence[str] = ()  # whose classes the weights have to be of
        self._fit: Fit | None = None  # of what was loaded last
        self._other_classes = ""  # what its labels stand for and the data's do not

    @heard_by_all_ranks()
    def save(self, name: str, **kwargs: Any) -> None:
        """Write all of the run as ``name``.pth and note it as the last; call it on all ranks."""
        states = {key: obj.state_dict() for key, obj in self.checkpointables.items()}
        if self.average is not None:
            states["training_model"] = self.model.state_dict()
        if self._write(name, {**states, **kwargs}):
            self.tag_last_checkpoint(f"{name}.pth")
            self._remove_older(name)

    @heard_by_all_ranks()
    def save_as(self, name: str, saved: str) -> None:
        """Give what was just saved as ``saved``.pth the name ``name``.pth too, as the last one."""
        if self.save_dir and self.save_to_disk:
            path, existing = (os.path.join(self.save_dir, f"{n}.pth") for n in (name, saved))
            atomic_link(path, existing)
            self.tag_last_checkpoint(f"{name}.pth")

    def save_weights(self, name: str, **kwargs: Any) -> None:
        """Write ``name``.pth to predict with, not to resume from; the last checkpoint stays it."""
        self._write(name, kwargs)

    def _write(self, name: str, states: dict[str, Any]) -> bool:
        if not self.save_dir or not self.save_to_disk:
            return False
        weights = self.model if self.average is None else self.average
        data = {"model": weights.state_dict(), **states, **about_run(self.cfg)}
        path = os.path.join(self.save_dir, f"{name}.pth")
        self.logger.info(f"Saving checkpoint to {path}")
        os.makedirs(self.save_dir, exist_ok=True)
        atomic_write(path, lambda f: torch.save(data, f))
        return True

    def _remove_older(self, name: str) -> None:
        """Leave the newest ``SOLVER.CHECKPOINT_KEEP`` of the kind of ``name``, model_<iteration>.

        Those of later iterations, of before a fallback, are left to be overwritten.
        """
        keep = self.cfg.SOLVER.CHECKPOINT_KEEP if self.cfg is not None else 0
        newest = iteration_of(name)
        if keep <= 0 or newest is None:
            return
        files = {iteration_of(f): f for f in os.listdir(self.save_dir) if f.endswith(".pth")}
        older = sorted(i for i in files if i is not None and i <= newest)
        for iteration in older[:-keep]:
            os.unlink(os.path.join(self.save_dir, files[iteration]))

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Note the name of the last checkpoint."""
        path = os.path.join(self.save_dir, "last_checkpoint")
        atomic_write(path, lambda f: f.write(last_filename_basename.encode()))

    def resume(self) -> dict[str, Any] | None:
        """Restore the run from the last whole checkpoint of ``save_dir``.

        Returns:
            what the checkpoint holds beside the restored; None if there is no whole one.

        Raises:
            ConfigError: the checkpoint is of another model, other classes or another optimizer.
        """
        path = self.find_to_resume()
        if not path:
            return None
        self._resuming = True
        try:
            return self._load(path, None, TO_RESUME, self.cfg.DATASETS.TRAIN if self.cfg else ())
        except ConfigError:
            raise
        except ValueError as e:  # torch's optimizers say so that they are of other parameters
            raise ConfigError(f"{path}: cannot be resumed from: {e}. {TO_RESUME}") from e
        finally:
            self._resuming = False

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict[str, Any]:
        """Same interface as there; resumes from the last whole checkpoint."""
        restored = self.resume() if resume else None
        return self.load(path, checkpointables=[]) if restored is None else restored

    def find_to_resume(self) -> str:
        """What :meth:`resume` takes, as the main rank sees it; call it on all ranks."""
        return comm.all_gather(self.last_whole_checkpoint() if comm.is_main_process() else "")[0]

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

    def _candidates(self) -> list[str]:
        """The noted last checkpoint, then the others from the newest to the oldest."""
        files = glob.glob(os.path.join(glob.escape(self.save_dir), "model_*.pth"))
        files = [f for f in files if re.search(r"model_(\d+|final)\.pth$", f)]
        files.sort(key=os.path.getmtime, reverse=True)
        noted = self.get_checkpoint_file()
        if noted and noted not in files:
            name = os.path.basename(noted) or "nothing"
            self.logger.warning(f"last_checkpoint names {name}, which is not there")
        return sorted(files, key=lambda f: f != noted)

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict[str, Any]:
        """Start from ``path``, "" for nothing; same interface as ``DetectionCheckpointer.load``.

        What fits by name and shape is loaded. The log says how much, and which layers start anew.

        Raises:
            ConfigError: the file cannot be had, is refused, is not whole or nothing of it fits.
        """
        return self._load(path, checkpointables)

    def load_all(self, path: str, datasets: Sequence[str] = ()) -> dict[str, Any]:
        """Load weights to predict or evaluate with: the model's, every one of them.

        Args:
            path: as for :meth:`load`, not empty.
            datasets: registered names; the weights' classes, where known, have to be theirs.

        Raises:
            ConfigError: as for :meth:`load`; the first tensor or class that differs.
        """
        if not path:
            raise ConfigError(
                "MODEL.WEIGHTS is '': without weights the detections are noise; give MODEL.WEIGHTS"
                " /path/to/model_final.pth"
            )
        return self._load(path, [], TO_USE, datasets)

    def _load(
        self,
        path: str,
        checkpointables: list[str] | None,
        demand: str = "",
        datasets: Sequence[str] = (),
    ) -> dict[str, Any]:
        self._demand, self._datasets, self._fit = demand, datasets, None
        self._other_classes = ""
        if path:
            self._find(path)
        try:
            rest = super().load(path, checkpointables)
        finally:
            self._parsed_url_during_load = None  # Detectron2 leaves it behind where a file fails
        if self._fit and not demand:
            logger.info(f"{path}: {self._fit.summary()}")
        if self._other_classes:
            logger.warning(f"{path}: starts from other classes: {self._other_classes}")
        if self._fit and (poor := self._fit.poor_modules()):
            logger.warning(f"{path}: less than half is used of {', '.join(poor)} tensors")
        return rest

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

    def _load_file(self, filename: str) -> dict[str, Any]:
        checkpoint = self._read(filename)
        require_weights(checkpoint, filename)
        self._path = filename
        return checkpoint

    def _read(self, filename: str) -> dict[str, Any]:
        if filename.endswith((".pkl", ".pyth")):
            return safe_zoo_load(filename)
        return super()._load_file(filename)

    def _torch_load(self, f: str) -> dict[str, Any]:
        content = safe_torch_load(f)
        return content if isinstance(content, dict) else {"model": content}

    def _load_model(self, checkpoint: dict[str, Any]):
        stored = Classes.of_checkpoint(checkpoint)
        for name in self._datasets if stored else ():
            data, demand = Classes.of_dataset(name, read=True), self._demand
            require_same_classes(stored, data, path=self._path, dataset=name, demand=demand)
        if stored and not self._demand and self.cfg and self.cfg.DATASETS.TRAIN:
            data = Classes.of_dataset(self.cfg.DATASETS.TRAIN[0])
            self._other_classes = stored.difference(data) if data else ""
        average = None
        training_model = checkpoint.pop("training_model", None)
        if self._resuming and training_model is not None:
            average, checkpoint["model"] = checkpoint["model"], training_model
        checkpoint["model"] = current_names(checkpoint["model"], self.model)
        incompatible = super()._load_model(checkpoint)
        self._fit = Fit.of(self.model, incompatible)
        check_weights(self._fit, self._path, demand=self._demand)
        if self.average is not None:
            average = current_names(average or self.model.state_dict(), self.model)
            self.average.load_state_dict(average, strict=False)
        return incompatible
