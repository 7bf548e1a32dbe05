"""ROIAlign of the ROI heads, on a CPU."""

import torch
from detectron2.layers import ROIAlign
from detectron2.modeling.poolers import ROIPooler
from torch import nn

from ...functional.roi_align import sparse_roi_align

__all__ = ["SparseROIAlign", "use_sparse_roi_align"]

SUPPORTED = (torch.float32, torch.float64)


class SparseROIAlign(nn.Module):
    """A :class:`ROIAlign` training on a CPU by :func:`sparse_roi_align`, in a fraction of the time.

    On other devices, in half precision and in inference it is the one it was made of.
    """

    def __init__(self, roi_align: ROIAlign):
        super().__init__()
        self.roi_align = roi_align

    def forward(self, input: torch.Tensor, rois: torch.Tensor) -> torch.Tensor:
        """Same interface as :meth:`ROIAlign.forward`; sparse where it is in training on a CPU."""
        if self.training and input.device.type == "cpu" and input.dtype in SUPPORTED:
            return sparse_roi_align(
                input,
                rois.to(dtype=input.dtype),
                self.roi_align.output_size,
                self.roi_align.spatial_scale,
                self.roi_align.sampling_ratio,
                self.roi_align.aligned,
            )
        return self.roi_align(input, rois)


def use_sparse_roi_align(module: nn.Module) -> None:
    """Let each :class:`ROIPooler` within ``module``, in place, train by :class:`SparseROIAlign`.

    Poolers of another type than ROIAlign stay what they are.
    """
    for pooler in module.modules():
        if isinstance(pooler, ROIPooler):
            pooler.level_poolers = nn.ModuleList(
                SparseROIAlign(p) if type(p) is ROIAlign else p for p in pooler.level_poolers
            )
