"""Random crops that see objects, and that cut polygons without a geometry library.

fvcore's crop of polygons needs shapely, which neither Detectron2 nor this project depends on.
"""

import numpy as np
from detectron2.data import transforms as T
from fvcore.transforms.transform import CropTransform

__all__ = ["Crop", "FixedSizeCrop", "RandomCrop", "clip_polygon", "offset_to_show"]


class Crop(CropTransform):
    """Same interface as :class:`CropTransform`, without shapely."""

    def apply_polygons(self, polygons: list[np.ndarray]) -> list[np.ndarray]:
        """What is left of polygons (P, 2), in the crop's frame; those without an area are gone."""
        window = (self.x0, self.y0, self.x0 + self.w, self.y0 + self.h)
        clipped = [clip_polygon(np.asarray(p, dtype=np.float64), window) for p in polygons]
        return [self.apply_coords(p) for p in clipped if len(p)]


class RandomCrop(T.RandomCrop):
    """Same interface as :class:`detectron2.data.transforms.RandomCrop`, placed at objects at will.

    Args:
        crop_type, crop_size: as the parent's.
        object_prob: how probably the crop is placed so that it shows a random object, whole where
            the object is no larger than the crop; otherwise it is placed anywhere.
    """

    def __init__(self, crop_type: str, crop_size: tuple[float, float], object_prob: float = 0.0):
        super().__init__(crop_type, crop_size)
        self.object_prob = object_prob

    def get_transform(self, image: np.ndarray, boxes: np.ndarray | None = None) -> T.Transform:
        """Same interface as the parent's; ``boxes``: of the objects, (N, 4) XYXY pixels."""
        at_object = self.object_prob and np.random.rand() < self.object_prob
        if not at_object or boxes is None or not len(boxes):
            crop = super().get_transform(image)
            return Crop(crop.x0, crop.y0, crop.w, crop.h)
        height, width = self.get_crop_size(image.shape[:2])
        x0, y0, x1, y1 = boxes[np.random.randint(len(boxes))]
        left = offset_to_show(x0, x1, width, image.shape[1])
        top = offset_to_show(y0, y1, height, image.shape[0])
        return Crop(left, top, width, height)


class FixedSizeCrop(T.FixedSizeCrop):
    """Same interface as :class:`detectron2.data.transforms.FixedSizeCrop`, without shapely."""

    def _get_crop(self, image: np.ndarray) -> T.Transform:
        crop = super()._get_crop(image)
        return Crop(crop.x0, crop.y0, crop.w, crop.h, crop.orig_w, crop.orig_h)


def offset_to_show(start: float, end: float, length: int, whole: int) -> int:
    """A random offset of a crop along an axis, so that it has all of [start, end], or ends in it.

    Args:
        start, end: of an object.
        length: of the crop, at most ``whole``.
        whole: of the image.
    """
    offsets = sorted((int(np.ceil(end)) - length, int(np.floor(start))))
    lowest, highest = np.clip(offsets, 0, whole - length)
    return int(np.random.randint(lowest, highest + 1))


def clip_polygon(points: np.ndarray, window: tuple[float, float, float, float]) -> np.ndarray:
    """The part of a polygon inside a window (Sutherland & Hodgman, 1974), side by side.

    Of a concave polygon several parts may remain; they hang together by lines along the window's
    border, which have no area.

    Args:
        points: (P, 2) float64.
        window: XYXY.

    Returns:
        (Q, 2); (0, 2) where nothing with an area is left.
    """
    x0, y0, x1, y1 = window
    for axis, bound, sign in ((0, x0, 1), (1, y0, 1), (0, x1, -1), (1, y1, -1)):
        inside = sign * (points[:, axis] - bound) >= 0  # (P,)
        before, was_inside = np.roll(points, 1, axis=0), np.roll(inside, 1)
        crosses = was_inside != inside
        step = points - before
        part = (bound - before[:, axis]) / np.where(crosses, step[:, axis], 1)
        crossings = before + part[:, None] * step
        crossings[:, axis] = bound
        both = np.stack([crossings, points], axis=1)  # (P, 2, 2): on the way to each, and each
        points = both[np.stack([crosses, inside], axis=1)]
        if not len(points):
            break
    x, y = points.T
    has_area = abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) > 1e-9
    return points if has_area else points[:0]
