"""Detection in large images tile by tile, and the boxes of all tiles as one image's.

Two boxes of one class from two tiles are one object's if they agree where both tiles see: if their
parts inside the tiles' overlap have an IoU of half or more. So an object that is whole in one tile
takes up its part in the next, and an object across a border is put together from its two parts,
which an IoU of the whole boxes would not find.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn

__all__ = [
    "TiledDetector",
    "at_own_size",
    "detect_in_tiles",
    "merge_tiles",
    "on_tiles",
    "tile_windows",
]

SAME_IOU = 0.5
CUT_PX = 0.02  # of a tile's side: a box that ends so near to its border may go on behind it


def tile_windows(height: int, width: int, size: int, overlap: float) -> Tensor:
    """Windows of at most ``size`` x ``size`` that cover an image, (T, 4) XYXY pixels.

    Neighbours overlap by ``overlap`` of ``size`` or more; all but those of a smaller image have the
    full size, the last ones moved back inside.
    """
    step = max(1, int(size * (1 - overlap)))

    def starts(length: int) -> list[int]:
        last = max(length - size, 0)
        return [*range(0, last, step), last]

    windows = [
        (x, y, min(x + size, width), min(y + size, height))
        for y in starts(height)
        for x in starts(width)
    ]
    return torch.tensor(windows, dtype=torch.float32)


def merge_tiles(
    boxes: Tensor, scores: Tensor, classes: Tensor, tiles: Tensor, windows: Tensor
) -> tuple[Tensor, Tensor]:
    """One box for each object, in the order of its best score.

    Args:
        boxes: (N, 4) XYXY, in the image.
        scores: (N,).
        classes: (N,) int64.
        tiles: (N,) int64, the window that each comes from; the boxes of one are left apart.
        windows: (T, 4) XYXY.

    Returns:
        (M, 4) boxes and (M,) int64, which of the N each is: its score and class are that one's. A
        box that its tile's border cuts is enlarged by those that agree with it.
    """
    is_cut = _is_cut(boxes, windows[tiles], windows)
    left = torch.ones(len(boxes), dtype=torch.bool, device=boxes.device)
    merged, kept = [], []
    for i in scores.argsort(descending=True, stable=True).tolist():
        if not left[i]:
            continue
        left[i] = False
        box, members = boxes[i], [i]
        for member in members:  # grows: an object may go on over many tiles
            rivals = (left & (classes == classes[i])).nonzero().flatten()
            agree = _agree(
                boxes[member], boxes[rivals], windows[tiles[member]], windows[tiles[rivals]]
            )
            found = rivals[agree & (tiles[rivals] != tiles[member])]
            left[found] = False
            members += found.tolist()
            if is_cut[member] and len(found):
                lowest, highest = boxes[found].min(dim=0).values, boxes[found].max(dim=0).values
                box = torch.cat([box[:2].minimum(lowest[:2]), box[2:].maximum(highest[2:])])
        merged.append(box)
        kept.append(i)
    index = torch.tensor(kept, dtype=torch.int64, device=boxes.device)
    return torch.stack(merged) if merged else boxes[:0], index


def _agree(box: Tensor, others: Tensor, window: Tensor, windows: Tensor) -> Tensor:
    """(R,) bool: whether a box and each of R others are the same where both windows are.

    Args:
        box, others: (4,) and (R, 4), each seen in its own window.
        window, windows: (4,) and (R, 4).
    """
    shared = _intersection(window, windows)
    first, second = _intersection(box, shared), _intersection(others, shared)
    common = Boxes(_intersection(first, second)).area()
    union = Boxes(first).area() + Boxes(second).area() - common
    return (common > 0) & (common >= SAME_IOU * union)


def _intersection(a: Tensor, b: Tensor) -> Tensor:
    """(R, 4) of (4,) or (R, 4) each; without a common area both ends fall together."""
    low = a[..., :2].maximum(b[..., :2])
    return torch.cat([low, a[..., 2:].minimum(b[..., 2:]).maximum(low)], dim=-1)


def _is_cut(boxes: Tensor, own: Tensor, windows: Tensor) -> Tensor:
    """(N,) bool: whether a box ends at a border of its own window that is none of the image."""
    edges = torch.cat([windows[:, :2].min(dim=0).values, windows[:, 2:].max(dim=0).values])
    near = CUT_PX * (own[:, 2:] - own[:, :2]).max(dim=1, keepdim=True).values
    return (((boxes - own).abs() <= near) & (own != edges)).any(dim=1)


def detect_in_tiles(
    detect: Callable[[Sequence[np.ndarray]], list[dict[str, Any]]],
    image: np.ndarray,
    *,
    size: int,
    overlap: float,
    batch_size: int = 1,
) -> Instances:
    """The boxes, scores and classes of an image, from detecting in its tiles.

    Args:
        detect: images (H, W, C) -> for each a dict with its "instances", in its pixels.
        image: (H, W, C). Of one that fits into a tile it is what ``detect`` gives.
        size, overlap: see :func:`tile_windows`.
        batch_size: tiles at a time.
    """
    height, width = image.shape[:2]
    windows = tile_windows(height, width, size, overlap)
    crops = [image[y0:y1, x0:x1] for x0, y0, x1, y1 in windows.int().tolist()]
    outputs: list[Instances] = []
    for start in range(0, len(crops), batch_size):
        found = detect(crops[start : start + batch_size])
        outputs += [output["instances"] for output in found]
    if len(outputs) == 1:
        return outputs[0]
    windows = windows.to(outputs[0].scores.device)
    boxes = [o.pred_boxes.tensor + w[[0, 1, 0, 1]] for o, w in zip(outputs, windows, strict=True)]
    tiles = [torch.full_like(o.pred_classes, t) for t, o in enumerate(outputs)]
    scores = torch.cat([o.scores for o in outputs])
    classes = torch.cat([o.pred_classes for o in outputs])
    merged, index = merge_tiles(torch.cat(boxes), scores, classes, torch.cat(tiles), windows)
    result = Instances((height, width), pred_boxes=Boxes(merged))
    result.scores, result.pred_classes = scores[index], classes[index]
    return result


class TiledDetector(nn.Module):
    """A detector that is tested on tiles of each image, as ``TEST.TILES`` says.

    Same interface as Detectron2's models in inference; but "image" is as it is in its file, uint8
    and not resized, as tiles are resized by ``INPUT.MIN_SIZE_TEST`` one by one.

    Args:
        cfg: a CfgNode.
        model: the detector, or one with test-time augmentation.
    """

    def __init__(self, cfg: CfgNode, model: nn.Module):
        super().__init__()
        self.model = model
        self._tiles = {"size": cfg.TEST.TILES.SIZE, "overlap": cfg.TEST.TILES.OVERLAP}
        sizes = [cfg.INPUT.MIN_SIZE_TEST] * 2
        self._resize = T.ResizeShortestEdge(sizes, cfg.INPUT.MAX_SIZE_TEST)
        self.training = model.training

    def forward(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """A dict with "instances" for each image."""
        images = [x["image"].permute(1, 2, 0).numpy() for x in batched_inputs]  # (H, W, C)
        found = [detect_in_tiles(self._detect, image, **self._tiles) for image in images]
        return [{"instances": instances} for instances in found]

    def _detect(self, images: Sequence[np.ndarray]) -> list[dict[str, Any]]:
        inputs = []
        for image in images:
            resized = self._resize.get_transform(image).apply_image(image).transpose(2, 0, 1)
            tensor = torch.as_tensor(np.ascontiguousarray(resized))
            inputs.append({"image": tensor, "height": image.shape[0], "width": image.shape[1]})
        return self.model(inputs)


def on_tiles(cfg: CfgNode, model: nn.Module) -> tuple[CfgNode, nn.Module]:
    """What tests a model as ``TEST.TILES`` says: a config for the test loader, and a model."""
    if not cfg.TEST.TILES.SIZE:
        return cfg, model
    return at_own_size(cfg), TiledDetector(cfg, model)


def at_own_size(cfg: CfgNode) -> CfgNode:
    """The config by which the test loader gives images at the size that they have."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.INPUT.MIN_SIZE_TEST = 0
    return cfg
