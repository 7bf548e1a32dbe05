#!/usr/bin/env python
"""Draw what each augmentation key makes of a training picture, with its boxes.

dev/draw_augmentation.py --dataset output/shapes --output docs/images/augmentation.jpg
"""

import argparse
from pathlib import Path

import numpy as np

CONFIG = "quick/faster_rcnn_R_18_FPN_shapes.yaml"
ROWS = {
    "none": [],
    "INPUT.COLOR_JITTER 0.4": ["INPUT.COLOR_JITTER", "0.4"],
    "INPUT.SCALE_JITTER [0.3,2.0]": ["INPUT.SCALE_JITTER", "[0.3,2.0]"],
    "INPUT.CROP.ENABLED True": ["INPUT.CROP.ENABLED", "True", "INPUT.CROP.SIZE", "[0.6,0.6]"],
    "INPUT.MOSAIC.PROB 1.0": ["INPUT.MOSAIC.PROB", "1.0"],
}
SEEDS, TILE_PX = (1, 6, 9, 10), 220
KEYS = ["INPUT.RANDOM_FLIP", "none", "INPUT.MAX_SIZE_TRAIN", "192"]  # the side of drawn images


def tiles_of(records, opts: list[str], caption: str) -> list[np.ndarray]:
    """The picture of the second record as ``SEEDS`` draw it, longer side ``TILE_PX`` at most."""
    from libra_umop.config.loading import load_config
    from libra_umop.data.augmentation import Mosaic
    from libra_umop.data.mapper import OwnDatasetMapper
    from libra_umop.inference.tiles import Boxes, captioned, class_colour, draw_boxes
    from libra_umop.utils.rng import sample_rng

    cfg = load_config(CONFIG, [*KEYS, *opts])
    mapper, tiles = OwnDatasetMapper(cfg, is_train=True), []
    if cfg.INPUT.MOSAIC.PROB:
        mapper = Mosaic.from_config(cfg, mapper, records)
    for seed in SEEDS:
        with sample_rng(seed):
            sample = mapper(records[1])
        image = sample["image"].numpy().transpose(1, 2, 0)[:, :, ::-1]  # RGB to BGR
        boxes, classes = sample["instances"].gt_boxes.tensor.numpy(), sample["instances"].gt_classes
        colours = {c: class_colour(c) for c in classes.tolist()}
        shown = Boxes(boxes, classes.tolist(), [])
        longest = round(TILE_PX * max(image.shape[:2]) / cfg.INPUT.MAX_SIZE_TRAIN)
        tile = draw_boxes(np.ascontiguousarray(image), shown, colours, {}, longest)
        room = np.full((TILE_PX, TILE_PX, 3), 245, dtype=np.uint8)
        room[: tile.shape[0], : tile.shape[1]] = tile
        tiles.append(captioned(room, caption if not tiles else ""))
    return tiles


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", required=True, help="a folder")
    parser.add_argument("--output", type=Path, required=True, help="the picture to write")
    args = parser.parse_args()
    # Not at the top: these take seconds, which --help need not wait for.
    from libra_umop.data.check.checking import check_dataset
    from libra_umop.data.datasets import dataset_dicts
    from libra_umop.data.layouts.table import find_splits
    from libra_umop.inference.outputs import write_image
    from libra_umop.inference.tiles import grid

    checked = check_dataset(find_splits(args.dataset))
    ids = {class_id: i for i, class_id in enumerate(checked.class_ids)}
    records = dataset_dicts(checked.splits["train"], ids)
    write_image(grid([tiles_of(records, o, name) for name, o in ROWS.items()], 1), args.output)


if __name__ == "__main__":
    main()
