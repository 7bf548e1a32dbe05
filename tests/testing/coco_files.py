"""Small datasets for tests, written to a temporary folder."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from libra_umop.data.coco.parsing import load_split
from libra_umop.data.layouts.coco import coco_file

WIDTH, HEIGHT = 96, 64


def document(num_images=2):
    """A sound COCO document: images of ids 1, 2, ..., classes of ids 3 and 7, and in each image
    annotation 10 * image id of class 3 and the next one of class 7."""
    images = [
        {"id": i, "file_name": f"{i}.png", "width": WIDTH, "height": HEIGHT}
        for i in range(1, num_images + 1)
    ]
    annotations = []
    for image in images:
        for k, box in enumerate(([8.0, 8.0, 40.0, 30.0], [60.0, 20.0, 24.0, 28.0])):
            annotations.append(
                {
                    "id": 10 * image["id"] + k,
                    "image_id": image["id"],
                    "category_id": (3, 7)[k],
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
            )
    categories = [
        {"id": 3, "name": "cat", "supercategory": "animal"},
        {"id": 7, "name": "dog", "supercategory": "animal"},
    ]
    return {"images": images, "annotations": annotations, "categories": categories}


def write_json(path, content):
    """Write ``content`` (text, bytes or any JSON value, NaN included); returns the path as str."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def write_images(folder, content, seed=0):
    """Random pictures for the images of a document."""
    rng = np.random.default_rng(seed)
    for image in content["images"]:
        path = Path(folder) / image["file_name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (image["height"], image["width"], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)


def load_coco(json_file, image_roots, **kwargs):
    """A training split that is a COCO file, read as ``load_split`` does."""
    return load_split(coco_file("train", json_file, image_roots), **kwargs)


def write_dataset(root, train=None, val=None, test=None):
    """``root/images/{split}`` and ``root/annotations/{split}.json``; returns ``root`` as str."""
    splits = {"train": train or document(3), "val": val or document(2), "test": test}
    for seed, (name, content) in enumerate(splits.items()):
        if content is not None:
            write_json(Path(root) / "annotations" / f"{name}.json", content)
            write_images(Path(root) / "images" / name, content, seed)
    return str(root)
