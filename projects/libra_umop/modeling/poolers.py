"""ROIAlign of the ROI heads, on a CPU."""

import torch
from detectron2.layers import ROIAlign
from detectron2.modeling.poolers import ROIPooler
from torch import nn

from ..functional.roi_align import sparse_roi_align

__all__ = ["SparseROIAlign", "use_sparse_roi_align"]


class SparseROIAlign(ROIAlign):
    """
    :class:`ROIAlign` that trains on a CPU by :func:`sparse_roi_align`, in a fraction of the time.
    On other devices, and in inference (exported or not), it is its parent.
    """

    def forward(self, input: torch.Tensor, rois: torch.Tensor) -> torch.Tensor:
        """
        Same interface as :meth:`ROIAlign.forward`.
        """
        supported = input.device.type == "cpu" and input.dtype in (torch.float32, torch.float64)
        if not (self.training and supported):
            return super().forward(input, rois)
        return sparse_roi_align(
            input,
            rois.to(dtype=input.dtype),
            self.output_size,
            self.spatial_scale,
            self.sampling_ratio,
            self.aligned,
        )


def use_sparse_roi_align(module: nn.Module) -> None:
    """Let the :class:`ROIPooler` within ``module``, in place, pool by :class:`SparseROIAlign`.

    Poolers of another type than ROIAlign stay what they are.
    """
    for pooler in module.modules():
        if isinstance(pooler, ROIPooler):
            pooler.level_poolers = nn.ModuleList(map(_to_sparse, pooler.level_poolers))


def _to_sparse(pooler: nn.Module) -> nn.Module:
    if type(pooler) is not ROIAlign:
        return pooler
    return SparseROIAlign(
        pooler.output_size, pooler.spatial_scale, pooler.sampling_ratio, pooler.aligned
    )
