"""A picture to look at: images with their ground truth and with what a detector found."""

from typing import Callable, Dict, List, Sequence

import cv2
import numpy as np
from detectron2.data.catalog import Metadata
from detectron2.structures import Instances
from detectron2.utils.visualizer import ColorMode, Visualizer

# A qualitative palette that colour-blind readers can tell apart (Okabe and Ito, 2008), RGB 0..255.
PALETTE = [
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
]
_GUTTER_PX = 6
_CAPTION_PX = 26


def contact_sheet(
    dataset_dicts: Sequence[Dict],
    predict: Callable[[np.ndarray], Instances],
    class_names: Sequence[str],
    *,
    columns: int = 3,
    tile_px: int = 320,
) -> np.ndarray:
    """Tiles of (ground truth | predictions), a pair for each image.

    Args:
        dataset_dicts: images in Detectron2's standard form.
        predict: BGR uint8 image (H, W, 3) -> Instances of that image.
        class_names: of the classes 0, 1, ...
        columns: pairs in a row.
        tile_px: width of one tile; the height of all is that of the tallest image at this width.

    Returns:
        A BGR uint8 image.

    Raises:
        ValueError: there is no image, or one cannot be read.
    """
    if not dataset_dicts:
        raise ValueError("there is no image to show")
    colors = [PALETTE[i % len(PALETTE)] for i in range(len(class_names))]
    metadata = Metadata(name="sheet", thing_classes=list(class_names), thing_colors=colors)
    pairs = []
    for record in dataset_dicts:
        image = cv2.imread(record["file_name"])
        if image is None:
            raise ValueError(f"{record['file_name']}: cannot be read as an image")
        scale = tile_px / image.shape[1]
        truth = _visualizer(image, metadata, scale).draw_dataset_dict(record)
        found = _visualizer(image, metadata, scale).draw_instance_predictions(
            predict(image).to("cpu")
        )
        tiles = [np.ascontiguousarray(t.get_image()[:, :, ::-1]) for t in (truth, found)]
        pairs.append([_captioned(t, c) for t, c in zip(tiles, ("ground truth", "predictions"))])
    return _grid(pairs, columns)


def _visualizer(image: np.ndarray, metadata: Metadata, scale: float) -> Visualizer:
    # SEGMENTATION is the mode that takes thing_colors.
    return Visualizer(image[:, :, ::-1], metadata, scale, instance_mode=ColorMode.SEGMENTATION)


def _captioned(tile: np.ndarray, caption: str) -> np.ndarray:
    """The tile below a white strip with the caption."""
    strip = np.full((_CAPTION_PX, tile.shape[1], 3), 255, dtype=np.uint8)
    place, font = (4, _CAPTION_PX - 8), cv2.FONT_HERSHEY_SIMPLEX
    cv2.putText(strip, caption, place, font, 0.5, (60, 60, 60), 1, cv2.LINE_AA)
    return np.vstack([strip, tile])


def _grid(pairs: List[List[np.ndarray]], columns: int) -> np.ndarray:
    """All pairs on white, ``columns`` in a row, with a wider gap between pairs than inside one."""
    height = max(t.shape[0] for pair in pairs for t in pair)
    width = max(t.shape[1] for pair in pairs for t in pair)
    columns = min(columns, len(pairs))
    rows = -(-len(pairs) // columns)
    step_x, step_y = 2 * width + 4 * _GUTTER_PX, height + 2 * _GUTTER_PX
    sheet = np.full((rows * step_y, columns * step_x, 3), 255, dtype=np.uint8)
    for i, pair in enumerate(pairs):
        for j, tile in enumerate(pair):
            y = i // columns * step_y + _GUTTER_PX
            x = i % columns * step_x + _GUTTER_PX + j * (width + _GUTTER_PX)
            sheet[y : y + tile.shape[0], x : x + tile.shape[1]] = tile
    return sheet
