"""Multi-scale and flip testing of R-CNN, merged by what ``TEST.AUG`` says."""

from typing import Any

import torch
from detectron2.modeling import GeneralizedRCNNWithTTA
from detectron2.structures import Boxes, Instances
from torch import Tensor

from .view_merging import ViewMerging, in_scale_range

__all__ = ["RCNNWithTTA"]


class RCNNWithTTA(GeneralizedRCNNWithTTA):
    """Detectron2's, with soft suppression, voting and a range of sizes for each scale.

    At the defaults of ``TEST.AUG`` it is its parent. Each view's detections have been through the
    detector's own suppression.

    Args:
        cfg: a CfgNode.
        args, kwargs: of the parent.
    """

    def __init__(self, cfg, *args: Any, **kwargs: Any):
        super().__init__(cfg, *args, **kwargs)
        self.merging = ViewMerging.from_cfg(cfg)

    def _batch_inference(self, batched_inputs, detected_instances=None):
        """Same interface as the parent's; first detections only of sizes that the view is for."""
        outputs = super()._batch_inference(batched_inputs, detected_instances)
        if detected_instances is not None:  # merged already: these are their masks
            return outputs
        return [in_scale_range(*x) for x in zip(outputs, batched_inputs, strict=True)]

    def _merge_detections(
        self, all_boxes: Tensor, all_scores: list[Tensor], all_classes: list[Tensor], shape_hw
    ) -> Instances:
        """Same interface as the parent's."""
        if self.merging == ViewMerging():
            return super()._merge_detections(all_boxes, all_scores, all_classes, shape_hw)
        scores = torch.stack(all_scores) if all_scores else all_boxes.new_zeros(0)
        pred = Instances(
            shape_hw,
            pred_boxes=Boxes(all_boxes.to(scores.dtype)),
            scores=scores,
            pred_classes=torch.stack(all_classes)
            if all_classes
            else all_boxes.new_zeros(0, dtype=torch.int64),
        )
        pred = pred[pred.pred_boxes.tensor.isfinite().all(dim=1) & pred.scores.isfinite()]
        pred.pred_boxes.clip(shape_hw)
        nms_thresh = self.cfg.MODEL.ROI_HEADS.NMS_THRESH_TEST
        return self.merging(pred, nms_thresh, self.cfg.TEST.DETECTIONS_PER_IMAGE)
