"""Prediction on large images tile by tile."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from detectron2.structures import Instances

from ..errors import ConfigError
from ..evaluation.sliced import detect_in_tiles
from .predictor import LibraPredictor, check_image

__all__ = ["TiledPredictor", "with_tiles"]


class TiledPredictor:
    """A predictor that sees large images tile by tile; :class:`LibraPredictor`'s interface.

    An image that fits into one tile gives the predictor's own output.

    Args:
        predictor: sees the tiles, resized as it resizes images.
        size: of a tile's side, in pixels of the image.
        overlap: of neighbouring tiles, as a part of ``size``, in [0, 0.9]; at least as large as the
            smallest objects, so that each is whole in one tile.

    Raises:
        ConfigError: the numbers are out of range, or the detector predicts masks.
    """

    def __init__(self, predictor: LibraPredictor, *, size: int, overlap: float = 0.2):
        if size < 32:
            raise ConfigError(f"--tiles is {size}, should be 32 pixels or more")
        if not 0 <= overlap <= 0.9:
            raise ConfigError(f"--tile-overlap is {overlap:g}, should be in [0, 0.9]")
        if predictor.cfg.MODEL.MASK_ON:
            raise ConfigError("--tiles gives boxes only; switch masks off by MODEL.MASK_ON False")
        self._predictor = predictor
        self._size = size
        self._overlap = overlap

    def __getattr__(self, name: str) -> Any:
        """What does not depend on tiles is the predictor's."""
        return getattr(self._predictor, name)

    def __call__(self, original_image: np.ndarray) -> dict[str, Any]:
        """Same interface as :meth:`LibraPredictor.__call__`."""
        return self.predict_batch([original_image])[0]

    def predict_batch(self, images: Sequence[np.ndarray]) -> list[dict[str, Any]]:
        """Same interface as :meth:`LibraPredictor.predict_batch`; as many tiles at a time."""
        return [{"instances": self._detect(check_image(image), len(images))} for image in images]

    def _detect(self, image: np.ndarray, batch_size: int) -> Instances:
        return detect_in_tiles(
            self._predictor.predict_batch,
            image,
            size=self._size,
            overlap=self._overlap,
            batch_size=batch_size,
        )


def with_tiles(
    predictor: LibraPredictor, *, size: int | None = None, overlap: float | None = None
) -> LibraPredictor | TiledPredictor:
    """The predictor, on tiles where they are asked for.

    Args:
        predictor: sees the tiles.
        size: of a tile's side, in pixels of the image; 0: whole images; None: what ``TEST.TILES``
            of the detector's config says, by which it was evaluated.
        overlap: see :class:`TiledPredictor`; None as for ``size``.

    Raises:
        ConfigError: as :class:`TiledPredictor`.
    """
    tiles = predictor.cfg.TEST.TILES
    size = tiles.SIZE if size is None else size
    if overlap is not None and not size:
        raise ConfigError(f"--tile-overlap is {overlap:g}, but there are no tiles; give --tiles PX")
    overlap = tiles.OVERLAP if overlap is None else overlap
    return TiledPredictor(predictor, size=size, overlap=overlap) if size else predictor
