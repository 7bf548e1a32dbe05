"""A picture to look at: images with their ground truth and with what a detector found."""

from typing import Callable, Dict, List, Optional, Sequence, Tuple

import cv2
import numpy as np
from detectron2.structures import BoxMode, Instances
from detectron2.utils.visualizer import Visualizer

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
    """Tiles of (ground truth | predictions with their scores), a pair for each image.

    Args:
        dataset_dicts: images in Detectron2's standard form.
        predict: BGR uint8 image (H, W, 3) -> Instances of that image.
        class_names: of the classes 0, 1, ..., for the legend.
        columns: pairs in a row.
        tile_px: width of one tile; the height of all is that of the tallest image at this width.

    Returns:
        A BGR uint8 image.

    Raises:
        ValueError: there is no image, or one cannot be read.
    """
    if not dataset_dicts:
        raise ValueError("there is no image to show")
    pairs = []
    for record in dataset_dicts:
        image = cv2.imread(record["file_name"])
        if image is None:
            raise ValueError(f"{record['file_name']}: cannot be read as an image")
        scale = tile_px / image.shape[1]
        found = predict(image).to("cpu")
        truth_tile = _draw(image, scale, *_annotated(record))
        scores = [f"{score:.2f}" for score in found.scores.tolist()]
        boxes, classes = found.pred_boxes.tensor.numpy(), found.pred_classes.tolist()
        found_tile = _draw(image, scale, boxes, classes, scores)
        captions = zip((truth_tile, found_tile), ("ground truth", "predictions"))
        pairs.append([_captioned(tile, caption) for tile, caption in captions])
    grid = _grid(pairs, columns)
    return np.vstack([_legend(class_names, grid.shape[1]), grid])


def _annotated(record: Dict) -> Tuple[np.ndarray, List[int]]:
    """The boxes, XYXY pixels (N, 4), and classes of a dataset dict."""
    annotations = record.get("annotations", [])
    boxes = [BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS) for a in annotations]
    return np.array(boxes, dtype=np.float32).reshape(-1, 4), [a["category_id"] for a in annotations]


def _draw(
    image: np.ndarray,
    scale: float,
    boxes: np.ndarray,
    classes: Sequence[int],
    labels: Optional[Sequence[str]] = None,
) -> np.ndarray:
    """A tile with boxes in their class's colour, the largest first, so that none hides another."""
    visualizer = Visualizer(image[:, :, ::-1], scale=scale)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    for i in np.argsort(-areas):
        color = tuple(v / 255 for v in PALETTE[classes[i] % len(PALETTE)])
        visualizer.draw_box(boxes[i], alpha=1.0, edge_color=color)
        if labels:
            corner = tuple(boxes[i, :2])
            visualizer.draw_text(
                labels[i], corner, font_size=4, color=color, horizontal_alignment="left"
            )
    return np.ascontiguousarray(visualizer.get_output().get_image()[:, :, ::-1])


def _legend(class_names: Sequence[str], width: int) -> np.ndarray:
    """A white strip that shows each class's colour beside its name, as far as they fit."""
    strip = np.full((_CAPTION_PX + _GUTTER_PX, width, 3), 255, dtype=np.uint8)
    x, font = 2 * _GUTTER_PX, cv2.FONT_HERSHEY_SIMPLEX
    for i, name in enumerate(class_names):
        color = PALETTE[i % len(PALETTE)][::-1]
        cv2.rectangle(strip, (x, 8), (x + 16, 24), color, cv2.FILLED)
        cv2.putText(strip, name, (x + 22, 22), font, 0.55, (0, 0, 0), 1, cv2.LINE_AA)
        x += 44 + cv2.getTextSize(name, font, 0.55, 1)[0][0]
    return strip


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
