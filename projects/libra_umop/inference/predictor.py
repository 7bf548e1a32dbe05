"""From an image array to boxes: ``DefaultPredictor`` for batches, and for what users feed it.

:class:`LibraPredictor` runs any Detectron2 config. For a uint8 BGR image it gives the very numbers
of ``DefaultPredictor``; beyond it, it checks its input, takes several images at a time, averages
over augmented copies (``tta=True``), knows the class names, and loads nothing that could run code.
"""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.data.catalog import Metadata
from detectron2.engine import DefaultPredictor
from detectron2.structures import Instances
from detectron2.utils.file_io import PathManager
from detectron2.utils.visualizer import Visualizer

from ..config.devices import device_of
from ..config.loading import load_config, merge_opts
from ..errors import ConfigError
from ..modeling.backbones.timm.models import without_pretrained
from ..training.checkpoint.checkpointer import LibraCheckpointer
from ..training.checkpoint.run_content import read_run


class LibraPredictor(DefaultPredictor):
    """A detector in one object: ``predictor(image)["instances"]``.

    Attributes:
        cfg: the config of the model.
        model: the model, in eval mode.
        metadata: Detectron2's ``Metadata`` with ``thing_classes``, for its ``Visualizer``.

    Args:
        cfg: a config; ``MODEL.WEIGHTS`` is loaded, and nothing else is read or fetched.
        class_names: names of the classes 0, 1, ...; by default those that the weights' file
            holds, else those of the first dataset of ``DATASETS.TEST`` or ``DATASETS.TRAIN``
            that is registered.
        threshold: detections below this score are left out, in [0, 1]; None: what the config
            says.
        tta: average over the sizes and flips of ``TEST.AUG``.

    Raises:
        ValueError: ``threshold`` is outside [0, 1].
        ConfigError: there are no weights, or not those of this config.
    """

    def __init__(
        self,
        cfg: CfgNode,
        *,
        class_names: Sequence[str] | None = None,
        threshold: float | None = None,
        tta: bool = False,
    ):
        if threshold is not None and not 0 <= threshold <= 1:
            raise ValueError(f"threshold is {threshold}; it is a score in [0, 1]")
        cfg = cfg.clone()
        cfg.defrost()
        if threshold is not None:
            _lower_score_thresholds(cfg.MODEL, threshold)
        with _without_info():  # it loads nothing, and says that the model starts from scratch
            super().__init__(without_pretrained(cfg))
        self.cfg = cfg
        stored = LibraCheckpointer(self.model).load_all(cfg.MODEL.WEIGHTS).get("class_names")
        self.threshold = threshold
        self.metadata = Metadata(
            name="predictor", thing_classes=list(class_names or stored or _class_names_of(cfg))
        )
        self._tta = _build_tta(self.cfg, self.model) if tta else None

    @classmethod
    def from_weights(
        cls,
        weights: str,
        *,
        config_file: str = "",
        opts: Sequence[str] = (),
        device: str = "",
        **kwargs: Any,
    ) -> "LibraPredictor":
        """The predictor of a checkpoint.

        Of one that this project's training wrote, or of any with its config.

        Args:
            weights: a checkpoint (a path, or a ``detectron2://`` or ``https://`` address).
            config_file: its config; by default the one that the checkpoint carries.
            opts: ``KEY value ...`` on top of it.
            device: ``cpu``, ``cuda``, ``cuda:1`` ...; by default what ``opts`` say, or the GPU
                where there is one.
            kwargs: those of the class; ``class_names`` is by default what the checkpoint carries.

        Raises:
            ConfigError: there is no such checkpoint, or neither it nor ``config_file`` has a
                config.
        """
        stored, names = read_run(_local_path(weights))
        if config_file:
            cfg = load_config(config_file)
        elif stored is not None:
            cfg = stored.clone()
        else:
            raise ConfigError(
                f"{weights}: carries no config; name the one it was trained with (--config-file)"
            )
        cfg.defrost()
        merge_opts(cfg, opts)
        cfg.MODEL.WEIGHTS = weights
        asked = cfg.MODEL.DEVICE if "MODEL.DEVICE" in list(opts)[::2] else ""
        by_key = device_of(asked, "MODEL.DEVICE")
        cfg.MODEL.DEVICE = device_of(device, "device") if device else by_key
        kwargs.setdefault("class_names", names)
        return cls(cfg, **kwargs)

    @property
    def class_names(self) -> list[str]:
        """Names of the classes 0, 1, ...; empty where none are known."""
        return self.metadata.thing_classes

    def __call__(self, original_image: np.ndarray) -> dict[str, Any]:
        """Same interface as ``DefaultPredictor``; see :func:`check_image` for what is accepted."""
        return self.predict_batch([original_image])[0]

    @torch.no_grad()
    def predict_batch(self, images: Sequence[np.ndarray]) -> list[dict[str, Any]]:
        """Detect in several images with one pass through the model.

        Images of one size get what each would get alone. Smaller ones of a mixed batch are padded
        to the largest, as in training, which moves their scores a little where a layer sees the
        whole map (the non-local refinement of a balanced feature pyramid).

        Args:
            images: BGR, (H, W, 3) uint8; sizes may differ. Grey and BGRA are accepted.

        Returns:
            One dict per image, in order, with ``instances``; an empty list for no images.

        Raises:
            ValueError: something is not an image.
        """
        images = [check_image(image) for image in images]
        if not images:
            return []
        if self._tta is not None:
            outputs = self._tta([self._original_input(image) for image in images])
        else:
            outputs = self.model([self._resized_input(image) for image in images])
        if self.threshold is None:
            return outputs
        return [_above(output, self.threshold) for output in outputs]

    def draw(self, image: np.ndarray, instances: Instances) -> np.ndarray:
        """A copy of ``image``, BGR uint8, with Detectron2's ``Visualizer``'s drawing of them."""
        visualizer = Visualizer(check_image(image)[:, :, ::-1], self.metadata)
        drawn = visualizer.draw_instance_predictions(instances.to("cpu"))
        return np.ascontiguousarray(drawn.get_image()[:, :, ::-1])

    def _model_order(self, image: np.ndarray) -> np.ndarray:
        return image[:, :, ::-1] if self.input_format == "RGB" else image

    def _resized_input(self, image: np.ndarray) -> dict[str, Any]:
        image = self._model_order(image)
        height, width = image.shape[:2]
        resized = self.aug.get_transform(image).apply_image(image)
        tensor = torch.as_tensor(resized.astype("float32").transpose(2, 0, 1))
        return {"image": tensor, "height": height, "width": width}

    def _original_input(self, image: np.ndarray) -> dict[str, Any]:
        """At its own size and as uint8: the test-time augmentation does the resizing."""
        height, width = image.shape[:2]
        tensor = torch.from_numpy(np.ascontiguousarray(self._model_order(image).transpose(2, 0, 1)))
        return {"image": tensor, "height": height, "width": width}


def check_image(image: Any) -> np.ndarray:
    """What a detector needs from an image, or a ValueError that says what is wrong.

    Args:
        image: (H, W, 3) uint8 BGR as ``cv2.imread`` gives it; a grey image, (H, W) or (H, W, 1), is
            repeated to three channels, the alpha channel of a BGRA image is dropped.

    Returns:
        The image as (H, W, 3) uint8.

    Raises:
        ValueError: it is None, not an array, empty, of another dtype or of another shape.
    """
    if image is None:
        raise ValueError("the image is None: cv2.imread gives None for a file that it cannot read")
    if not isinstance(image, np.ndarray):
        raise ValueError(f"the image is a {type(image).__name__}; a numpy array is needed")
    if image.dtype != np.uint8:
        raise ValueError(f"the image is {image.dtype}; uint8 with values 0..255 is needed")
    if image.ndim == 2:
        image = image[:, :, None]
    if image.ndim != 3 or image.shape[2] not in (1, 3, 4) or 0 in image.shape:
        raise ValueError(
            f"the image has the shape {image.shape}; (H, W, 3) is needed, or (H, W), (H, W, 1), "
            "(H, W, 4), with H and W of at least 1"
        )
    if image.shape[2] == 1:
        return np.repeat(image, 3, axis=2)
    return image[:, :, :3]


def _local_path(weights: str) -> str:
    """Where a checkpoint is once an address has been fetched."""
    if "://" not in weights:
        return weights
    try:
        return PathManager.get_local_path(weights.split("?")[0])
    except (OSError, RuntimeError, KeyError, ValueError, AssertionError) as e:
        raise ConfigError(f"{weights}: cannot be fetched: {' '.join(str(e).split())}") from e


def _build_tta(cfg: CfgNode, model: torch.nn.Module):
    from ..evaluation.tta import build_tta_model

    return build_tta_model(cfg, model)


def _lower_score_thresholds(node: CfgNode, threshold: float) -> None:
    """Let the model give all that ``threshold`` asks for; a higher one filters its output."""
    for key, value in node.items():
        if isinstance(value, CfgNode):
            _lower_score_thresholds(value, threshold)
        elif key == "SCORE_THRESH_TEST":
            node[key] = min(value, threshold)


def _above(output: dict[str, Any], threshold: float) -> dict[str, Any]:
    instances = output["instances"]
    return {**output, "instances": instances[instances.scores >= threshold]}


def _class_names_of(cfg: CfgNode) -> list[str]:
    for name in (*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN):
        names = MetadataCatalog.get(name).get("thing_classes") if name in MetadataCatalog else None
        if names:
            return names
    return []


@contextlib.contextmanager
def _without_info() -> Iterator[None]:
    before = logging.root.manager.disable
    logging.disable(max(before, logging.INFO))
    try:
        yield
    finally:
        logging.disable(before)
