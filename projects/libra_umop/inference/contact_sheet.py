"""A picture to look at: images with their ground truth and with what a detector found."""

from collections.abc import Callable, Sequence

import numpy as np
from detectron2.structures import BoxMode, Instances

from ..data.images import MAX_IMAGE_PIXELS, WHITE_16BIT, read_image
from .tiles import PALETTE, Boxes, captioned, class_colour, draw_boxes, grid, legend


def contact_sheet(
    dataset_dicts: Sequence[dict],
    predict: Callable[[np.ndarray], Instances],
    class_names: Sequence[str],
    *,
    columns: int = 3,
    tile_px: int = 320,
    white_16bit: int = WHITE_16BIT,
    max_pixels: int = MAX_IMAGE_PIXELS,
) -> np.ndarray:
    """Tiles of (ground truth | predictions with their scores), a pair for each image.

    The legend has the classes that are on the sheet. With more of them than colours that can be
    told apart, every box says its class.

    Args:
        dataset_dicts: images in Detectron2's standard form.
        predict: BGR uint8 image (H, W, 3) -> Instances of that image.
        class_names: of the classes 0, 1, ...
        columns: pairs in a row.
        tile_px: longer side of a tile.
        white_16bit, max_pixels: see :func:`libra_umop.data.images.read_image`.

    Returns:
        A BGR uint8 image.

    Raises:
        ValueError: there is no image.
        DatasetError: one cannot be read.
    """
    if not dataset_dicts:
        raise ValueError("there is no image to show")
    shown = []
    for record in dataset_dicts:
        image = read_image(
            record["file_name"], "BGR", white_16bit=white_16bit, max_pixels=max_pixels
        )
        shown.append((_annotated(record), _found(predict(image).to("cpu")), image))
    on_sheet = sorted({c for truth, found, _ in shown for c in (*truth.classes, *found.classes)})
    colours = {c: class_colour(i) for i, c in enumerate(on_sheet)}
    names = {c: class_names[c] for c in on_sheet} if len(on_sheet) > len(PALETTE) else {}
    pairs = []
    for truth, found, image in shown:
        tiles = (draw_boxes(image, boxes, colours, names, tile_px) for boxes in (truth, found))
        captions = zip(tiles, ("ground truth", "predictions"), strict=True)
        pairs.append([captioned(tile, caption) for tile, caption in captions])
    shown_pairs = grid(pairs, columns)
    strip = legend([(class_names[c], colours[c]) for c in on_sheet], shown_pairs.shape[1])
    return np.vstack([strip, shown_pairs])


def _annotated(record: dict) -> Boxes:
    annotations = record.get("annotations", [])
    boxes = [BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS) for a in annotations]
    array = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    return Boxes(array, [a["category_id"] for a in annotations], [])


def _found(found: Instances) -> Boxes:
    boxes = found.pred_boxes.tensor.numpy()
    return Boxes(boxes, found.pred_classes.tolist(), found.scores.tolist())
