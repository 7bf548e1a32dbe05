"""A dataset mapper that reads every image or names the one that it cannot read."""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import configurable
from detectron2.data import DatasetMapper
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T
from detectron2.structures import Boxes, BoxMode

from ..errors import DatasetError
from ..modeling.ignore_regions import InstancesWithRegions
from .augmentation.transforms import training_augmentations
from .images import MAX_IMAGE_PIXELS, WHITE_16BIT, read_image


class OwnDatasetMapper(DatasetMapper):
    """Same interface as :class:`detectron2.data.DatasetMapper`, for boxes and masks.

    It reads 16-bit images in full contrast, accepts boxes made for the stored side of an
    EXIF-rotated image, crops images without objects, and raises :class:`DatasetError` with the
    name of the file that is broken or of another size than annotated. It never returns None.

    Args:
        is_train: keep and transform the annotations.
        ignore_regions: whether "instances" have the image's crowd regions as their
            ``ignore_boxes``, see :class:`InstancesWithRegions`.
        white_16bit, max_image_pixels: see :func:`libra_umop.data.images.read_image`.
        kwargs: of :class:`detectron2.data.DatasetMapper`.
    """

    @configurable
    def __init__(
        self,
        is_train: bool,
        *,
        ignore_regions: bool = False,
        white_16bit: int = WHITE_16BIT,
        max_image_pixels: int = MAX_IMAGE_PIXELS,
        **kwargs: Any,
    ):
        if not 1 <= white_16bit <= WHITE_16BIT:
            raise ValueError(
                f"INPUT.WHITE_16BIT is {white_16bit}, should be within [1, {WHITE_16BIT}]"
            )
        super().__init__(is_train, **kwargs)
        self.ignore_regions = ignore_regions
        self.white_16bit = white_16bit
        self.max_image_pixels = max_image_pixels

    @classmethod
    def from_config(cls, cfg, is_train: bool = True) -> dict[str, Any]:
        """Same interface as the parent's; reads this project's keys, too."""
        parents = super().from_config(cfg, is_train)
        if is_train:
            parents["augmentations"] = training_augmentations(cfg)
        if is_train and cfg.INPUT.SCALE_JITTER:
            parents["recompute_boxes"] = cfg.MODEL.MASK_ON  # of what the crop has left
        return {
            **parents,
            "ignore_regions": cfg.INPUT.IGNORE_REGIONS,
            "white_16bit": cfg.INPUT.WHITE_16BIT,
            "max_image_pixels": cfg.INPUT.MAX_IMAGE_PIXELS,
        }

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """Same interface as the parent's; what is wrong with an image is a DatasetError."""
        record = copy.deepcopy(dataset_dict)
        objects = _boxes(record.get("annotations", ()), crowd=False) if self.is_train else None
        aug_input = T.AugInput(self._read(record), boxes=objects)
        transforms = self.augmentations(aug_input)
        image = np.ascontiguousarray(aug_input.image.transpose(2, 0, 1))  # (C, H, W)
        record["image"] = torch.as_tensor(image)
        if self.proposal_topk is not None:
            utils.transform_proposals(
                record, image.shape[1:], transforms, proposal_topk=self.proposal_topk
            )
        if not self.is_train:
            record.pop("annotations", None)
        elif "annotations" in record:
            self._transform_annotations(record, transforms, image.shape[1:])
        return record

    def _read(self, record: dict[str, Any]) -> np.ndarray:
        """(H, W, C) image of the annotated size."""
        path = record["file_name"]
        size = (record["width"], record["height"]) if "width" in record else None
        image = read_image(
            path,
            self.image_format,
            size=size,
            white_16bit=self.white_16bit,
            max_pixels=self.max_image_pixels,
        )
        try:
            utils.check_image_size(record, image)
        except utils.SizeMismatchError as e:
            height, width = image.shape[:2]
            annotated = f"{record['width']} x {record['height']} in the annotations"
            raise DatasetError(f"{path}: is {width} x {height} pixels, but {annotated}") from e
        return image

    def _transform_annotations(self, record, transforms, image_shape) -> None:
        """Same interface as the parent's, but for images without objects.

        With ``recompute_boxes`` the parent wants masks, which these do not have.
        """
        annotations = record["annotations"]
        if any(not annotation.get("iscrowd", 0) for annotation in record["annotations"]):
            super()._transform_annotations(record, transforms, image_shape)
        else:
            del record["annotations"]
            record["instances"] = utils.annotations_to_instances([], image_shape)
        if self.ignore_regions:
            objects = record["instances"]
            regions = _crowd_boxes(annotations, transforms, image_shape)
            record["instances"] = InstancesWithRegions(
                objects.image_size, ignore_boxes=regions, **objects.get_fields()
            )


def _boxes(annotations: Sequence[dict[str, Any]], *, crowd: bool) -> np.ndarray:
    """(N, 4) XYXY float64 of the crowd regions, or of all others."""
    boxes = [
        BoxMode.convert(annotation["bbox"], annotation["bbox_mode"], BoxMode.XYXY_ABS)
        for annotation in annotations
        if bool(annotation.get("iscrowd", 0)) == crowd
    ]
    return np.array(boxes, dtype=np.float64).reshape(-1, 4)


def _crowd_boxes(annotations: list[dict[str, Any]], transforms, image_shape) -> Boxes:
    """The crowd regions in the frame of the transformed image, without those outside of it."""
    xyxy = transforms.apply_box(_boxes(annotations, crowd=True))
    regions = Boxes(torch.as_tensor(xyxy, dtype=torch.float32))
    regions.clip(image_shape)
    return regions[regions.nonempty()]
