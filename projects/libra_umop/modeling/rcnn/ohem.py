"""ROI heads with online hard example mining, what Libra R-CNN compares its sampling with."""

import torch
from detectron2.config import configurable
from detectron2.layers import nonzero_tuple
from detectron2.modeling.roi_heads import ROI_HEADS_REGISTRY
from detectron2.structures import ImageList, Instances
from detectron2.utils.events import get_event_storage
from torchvision.ops import nms

from ...functional.hard_negative_mining import hardest
from ..ignore_regions import drop_ignored
from .box_predictor import BalancedBoxHead, region_losses
from .poolers import use_sparse_roi_align

__all__ = ["OHEMROIHeads"]


@ROI_HEADS_REGISTRY.register()
class OHEMROIHeads(BalancedBoxHead):
    """:class:`StandardROIHeads` that learn from the regions they get most wrong.

    OHEM, Shrivastava et al., CVPR 2016: a first pass without gradient takes the loss of every
    region, a second one trains on the hardest. Nothing is drawn at random; of the limits on the
    number of regions only ``num_hard`` holds. Box losses as in :class:`LibraROIHeads`.

    Args:
        num_hard: regions of each image to train on; > 0.
        sparse_roi_align: whether to train on a CPU with :class:`SparseROIAlign`.
        nms_thresh: regions of a smaller loss that overlap a harder one by more than this IoU
            are left out before the hardest are taken, since their losses are one error counted
            twice (section 4; there 0.7); in [0, 1], 1 leaves out none.
        kwargs: of :class:`StandardROIHeads`.

    Raises:
        ValueError: ``num_hard`` or ``nms_thresh`` is out of its range, or the classification
            loss is federated.
    """

    @configurable
    def __init__(
        self,
        *,
        num_hard: int = 128,
        sparse_roi_align: bool = True,
        nms_thresh: float = 1.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if num_hard <= 0:
            raise ValueError(f"MODEL.ROI_HEADS.OHEM.NUM_HARD is {num_hard}, should be > 0")
        if not 0 <= nms_thresh <= 1:
            raise ValueError(
                f"MODEL.ROI_HEADS.OHEM.NMS_THRESH is {nms_thresh}, should be in [0, 1]"
            )
        if self.box_predictor.use_fed_loss:
            raise ValueError(
                "MODEL.ROI_BOX_HEAD.USE_FED_LOSS is True, should be False for OHEMROIHeads"
            )
        if sparse_roi_align:
            use_sparse_roi_align(self)
        self.num_hard = num_hard
        self.nms_thresh = nms_thresh

    @classmethod
    def from_config(cls, cfg, input_shape):
        """Same interface as the parent's; reads ``MODEL.ROI_HEADS.OHEM``, too."""
        ret = super().from_config(cfg, input_shape)
        ret["num_hard"] = cfg.MODEL.ROI_HEADS.OHEM.NUM_HARD
        ret["nms_thresh"] = cfg.MODEL.ROI_HEADS.OHEM.NMS_THRESH
        ret["sparse_roi_align"] = cfg.MODEL.ROI_HEADS.SPARSE_ROI_ALIGN
        return ret

    def _sample_proposals(
        self, matched_idxs: torch.Tensor, matched_labels: torch.Tensor, gt_classes: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Same interface as :meth:`ROIHeads._sample_proposals`, but takes all but the ignored."""
        if len(gt_classes) == 0:
            return torch.arange(len(matched_idxs), device=matched_idxs.device), torch.full_like(
                matched_idxs, self.num_classes
            )
        idxs = nonzero_tuple(matched_labels >= 0)[0]
        is_fg = matched_labels[idxs] == 1
        return idxs, torch.where(is_fg, gt_classes[matched_idxs[idxs]], self.num_classes)

    def forward(
        self,
        images: ImageList,
        features: dict[str, torch.Tensor],
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, torch.Tensor]]:
        """Same interface as :meth:`StandardROIHeads.forward`; trains on the hardest regions."""
        if not self.training:
            return super().forward(images, features, proposals)
        with get_event_storage().name_scope("all_regions"):
            assert targets is not None, "training needs targets"
            proposals = drop_ignored(proposals, targets)
            proposals = self.label_and_sample_proposals(proposals, targets)
        proposals = self._hardest_proposals(features, proposals)
        losses = self._forward_box(features, proposals)
        losses.update(self._forward_mask(features, proposals))
        losses.update(self._forward_keypoint(features, proposals))
        return proposals, losses

    @torch.no_grad()
    def _hardest_proposals(
        self, features: dict[str, torch.Tensor], proposals: list[Instances]
    ) -> list[Instances]:
        """The ``num_hard`` labelled proposals of each image that have the largest loss."""
        box_features = self.box_pooler(
            [features[f] for f in self.box_in_features], [p.proposal_boxes for p in proposals]
        )
        predictions = self.box_predictor(self.box_head(box_features))
        losses = region_losses(self.box_predictor, predictions, proposals)
        hard = [
            proposals_i[self._hardest_apart(proposals_i.proposal_boxes.tensor, losses_i)]
            for proposals_i, losses_i in zip(
                proposals, losses.split([len(p) for p in proposals]), strict=True
            )
        ]
        num_fg = sum((p.gt_classes < self.num_classes).sum() for p in hard).item()
        storage = get_event_storage()
        storage.put_scalar("roi_head/num_fg_samples", num_fg / len(hard))
        storage.put_scalar("roi_head/num_bg_samples", (sum(map(len, hard)) - num_fg) / len(hard))
        return hard

    def _hardest_apart(self, boxes: torch.Tensor, losses: torch.Tensor) -> torch.Tensor:
        """Indices of an image's ``num_hard`` hardest regions that differ enough, hardest first.

        Boxes (R, 4) and losses (R,); none overlaps a harder one by more than ``nms_thresh``.
        """
        if self.nms_thresh == 1:
            return hardest(losses, self.num_hard)
        losses = losses.float().nan_to_num(nan=float("inf"))  # not a number: hardest, as above
        return nms(boxes.float(), losses, self.nms_thresh)[: self.num_hard]
