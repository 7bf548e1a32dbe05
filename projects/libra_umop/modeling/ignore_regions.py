"""Regions in which objects are not labelled one by one, so that nothing is learnt from them.

Crowds of COCO, and whatever else is no object but no background either. A candidate (an anchor or a
proposal) that lies in one is neither positive nor negative, as in COCO's evaluation a detection
there counts neither as found nor as wrong; otherwise unlabelled objects would be the hardest
negatives. Letters: C regions, R candidates of one image.
"""

from typing import Any

from detectron2.layers import nonzero_tuple
from detectron2.structures import Boxes, Instances, pairwise_ioa
from torch import Tensor

__all__ = ["InstancesWithRegions", "drop_ignored", "is_ignored"]

IGNORE_IOA = 0.5  # from this part of its own area on, a candidate lies in a region


class InstancesWithRegions(Instances):
    """Ground truth of an image, and the regions in which it is not complete.

    What :class:`OwnDatasetMapper` makes where ``INPUT.IGNORE_REGIONS`` is on. The regions are no
    field, as there are not as many of them as objects; they stay with the objects on every device
    and through indexing.

    Args:
        image_size: (height, width) in pixels.
        ignore_boxes: the C regions, XYXY pixels.
        kwargs: fields, as of :class:`Instances`.
    """

    def __init__(self, image_size: tuple[int, int], *, ignore_boxes: Boxes, **kwargs: Any):
        super().__init__(image_size, **kwargs)
        self._ignore_boxes = ignore_boxes

    @property
    def ignore_boxes(self) -> Boxes:
        """The C regions, XYXY pixels."""
        return self._ignore_boxes

    def to(self, *args: Any, **kwargs: Any) -> Instances:
        """Same interface as :meth:`Instances.to`; the regions go along."""
        fields = super().to(*args, **kwargs).get_fields()
        regions = self._ignore_boxes.to(*args, **kwargs)
        return InstancesWithRegions(self.image_size, ignore_boxes=regions, **fields)

    def __getitem__(self, item: Any) -> Instances:
        """Same interface as :meth:`Instances.__getitem__`; all regions stay."""
        fields = super().__getitem__(item).get_fields()
        return InstancesWithRegions(self.image_size, ignore_boxes=self._ignore_boxes, **fields)


def is_ignored(candidates: Boxes, targets: Instances) -> Tensor | None:
    """Which candidates lie in a region of the image's ground truth.

    Args:
        candidates: R boxes, XYXY pixels.
        targets: of the same image.

    Returns:
        (R,) bool: at least half of the candidate's own area is in one region; None where the
        ground truth has no regions.
    """
    regions = getattr(targets, "ignore_boxes", None)
    if regions is None or len(regions) == 0:
        return None
    return (pairwise_ioa(regions, candidates) >= IGNORE_IOA).any(dim=0)  # (C, R) -> (R,)


def drop_ignored(proposals: list[Instances], targets: list[Instances]) -> list[Instances]:
    """The proposals of each image that lie in no region of its ground truth.

    Args:
        proposals: with ``proposal_boxes``, one for each image.
        targets: one for each image.
    """
    kept = []
    for proposals_i, targets_i in zip(proposals, targets, strict=True):
        ignored = is_ignored(proposals_i.proposal_boxes, targets_i)
        kept.append(proposals_i if ignored is None else proposals_i[nonzero_tuple(~ignored)[0]])
    return kept
