"""Training and predicting as two functions that give back objects, for scripts and notebooks.

The same code as the commands ``libra-umop train`` and ``predict``, in this process and on one
device; several processes are the commands' affair.
"""

import argparse
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.structures import Instances

from .cli import training_run
from .config.devices import choose_device
from .config.loading import load_layers
from .data.dataset_args import DataSource, RunOptions, division
from .data.images import read_image
from .errors import ConfigError, DatasetError, StopTraining
from .inference.inputs import find_inputs
from .inference.predictor import LibraPredictor
from .inference.sliced import TiledPredictor, with_tiles
from .training.words import weights_to_use
from .utils.library_warnings import hide_library_warnings

__all__ = ["Prediction", "TrainedDetector", "predict", "train"]


@dataclass(frozen=True)
class TrainedDetector:
    """What a training came to.

    Attributes:
        cfg: the frozen config of the run; ``cfg.OUTPUT_DIR`` holds all that it left.
        weights: the checkpoint to use: of the best evaluation, or the last where there was none.
        results: of the last evaluation, task -> metric -> value, as ``{"bbox": {"AP": 41.2}}`` with
            AP in per cent; empty where nothing was evaluated.
    """

    cfg: CfgNode
    weights: Path
    results: dict[str, dict[str, float]]

    def predictor(self, *, threshold: float = 0.5) -> LibraPredictor | TiledPredictor:
        """The detector of :attr:`weights`; detections below ``threshold`` are left out."""
        return with_tiles(
            LibraPredictor.from_weights(
                str(self.weights), device=self.cfg.MODEL.DEVICE, threshold=threshold
            )
        )


@dataclass(frozen=True)
class Prediction:
    """The detections of an image.

    Attributes:
        path: the file; None of an array.
        image: BGR uint8, (H, W, 3).
        instances: on the CPU, ``pred_boxes`` (XYXY pixels), ``scores``, ``pred_classes``.
        predictor: what found them.
    """

    path: Path | None
    image: np.ndarray
    instances: Instances
    predictor: LibraPredictor | TiledPredictor

    @property
    def class_names(self) -> list[str]:
        """The name of each detection's class; its number where the names are not known."""
        names = self.predictor.class_names
        return [names[c] if names else str(c) for c in self.instances.pred_classes.tolist()]

    def draw(self) -> np.ndarray:
        """The image with the detections drawn on it, BGR uint8."""
        return self.predictor.draw(self.image, self.instances)


def train(
    *,
    dataset: str | PathLike,
    config: str | PathLike,
    epochs: float | None = None,
    split: float | str | None = None,
    output_dir: str | PathLike = "output",
    keys: Mapping[str, Any] | None = None,
    **options: bool,
) -> TrainedDetector:
    """Train a detector on data of one's own, and evaluate it.

    Args:
        dataset: a folder, as ``--dataset`` of the command takes it.
        config: a file, or the name of one that comes with the package, as
            ``"quick/umop_atss_R_18_FPN_bccd.yaml"``.
        epochs: passes over the data, instead of the config's number of iterations.
        split: makes a validation split of the training images: the part that stays for training,
            or the ``split.json`` of an earlier run.
        output_dir: folder of the run; one that holds another run is refused.
        keys: of the config, ``{"SOLVER.IMS_PER_BATCH": 4}``.
        options: ``resume``, ``overwrite``, ``strict``, ``fit_anchors``, ``fit_image_size``: True
            for what the command's switch of that name does.

    Raises:
        ConfigError: a config, key, option or folder that cannot be used.
        DatasetError: the data cannot be used.
        KeyboardInterrupt: the run was asked to stop; a checkpoint is written, go on by ``resume``.
    """
    hide_library_warnings()
    opts = [str(word) for pair in (keys or {}).items() for word in pair]
    if "OUTPUT_DIR" not in (keys or {}):
        opts += ["OUTPUT_DIR", str(output_dir)]
    switches = ("resume", "overwrite", "strict", "fit_anchors", "fit_image_size")
    for name in options:
        if name not in switches:
            raise ConfigError(f"option {name} is unknown, should be one of {', '.join(switches)}")
    layers = load_layers(str(config), opts)
    asked = argparse.Namespace(**options)
    source = DataSource.by(asked, dataset=str(dataset), split=_split(split))
    run = RunOptions.by(asked, epochs=epochs, config_file=layers.source)
    try:
        note = choose_device(layers.cfg, layers.given)
        cfg, lines = training_run.setup(layers, source, run, note)
        results, trainer = training_run.train(cfg, lines, run)
    except StopTraining as stop:
        raise KeyboardInterrupt(str(stop)) from None
    return TrainedDetector(cfg, Path(weights_to_use(cfg, trainer.best)), dict(results or {}))


def _split(split: float | str | None) -> float | str | None:
    """As ``--split`` takes it; ConfigError says what is wrong with it."""
    try:
        return None if split is None else division(str(split))
    except argparse.ArgumentTypeError as e:
        raise ConfigError(f"split is {split!r}: {e}") from None


def predict(
    weights: str | PathLike | TrainedDetector | LibraPredictor | TiledPredictor,
    images: str | PathLike | np.ndarray | Iterable[str | PathLike | np.ndarray],
    *,
    threshold: float = 0.5,
) -> list[Prediction]:
    """Detect in images.

    Args:
        weights: a checkpoint of this project, what :func:`train` gave back, or a predictor, whose
            threshold then stays what it is. On tiles where its config's ``TEST.TILES`` says so.
        images: one or several of: image file, folder (with those below), glob, BGR uint8 array.
        threshold: the lowest score, in [0, 1].

    Returns:
        A prediction for each image in their order. A file that cannot be read is left out with a
        warning that names it.

    Raises:
        ConfigError: the weights cannot be used.
        DatasetError: there is no image.
    """
    predictor = _predictor_of(weights, threshold)
    items: Iterable = [images] if isinstance(images, (str, PathLike, np.ndarray)) else images
    found = [
        Prediction(path, image, predictor(image)["instances"].to("cpu"), predictor)
        for item in items
        for path, image in _read(item, predictor)
    ]
    if not found:
        raise DatasetError(f"images is {images!r}, which names no image that can be read")
    return found


def _predictor_of(weights, threshold: float) -> LibraPredictor | TiledPredictor:
    if isinstance(weights, (LibraPredictor, TiledPredictor)):
        return weights
    if isinstance(weights, TrainedDetector):
        return weights.predictor(threshold=threshold)
    return with_tiles(LibraPredictor.from_weights(str(weights), threshold=threshold))


def _read(item: Any, predictor: LibraPredictor | TiledPredictor):
    """Path and array of each image that ``item`` names."""
    if isinstance(item, np.ndarray):
        yield None, item
        return
    inputs = find_inputs([str(item)])
    for problem in [*inputs.problems, *(f"{v.path}: is a video" for v in inputs.videos)]:
        warnings.warn(f"skipped {problem}", stacklevel=3)
    for image in inputs.images:
        try:
            limits = predictor.cfg.INPUT
            array = read_image(
                str(image.path),
                "BGR",
                white_16bit=limits.WHITE_16BIT,
                max_pixels=limits.MAX_IMAGE_PIXELS,
            )
        except DatasetError as e:
            warnings.warn(f"skipped {e}", stacklevel=3)
            continue
        yield image.path, array
