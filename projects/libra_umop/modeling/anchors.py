"""Anchors as torchvision's detectors have them, for weights that were trained with those."""

import torch
from detectron2.modeling.anchor_generator import ANCHOR_GENERATOR_REGISTRY, DefaultAnchorGenerator
from torch import Tensor

__all__ = ["TorchvisionAnchorGenerator"]


@ANCHOR_GENERATOR_REGISTRY.register()
class TorchvisionAnchorGenerator(DefaultAnchorGenerator):
    """The anchors of ``torchvision.models.detection.anchor_utils.AnchorGenerator``.

    They differ from Detectron2's in two things. Their corners are rounded to whole pixels. And the
    distance of a level's locations is the image's side over their number, rounded down, where
    Detectron2 has the level's stride: the same unless the padded side is not a multiple of the
    stride, as 800 is not of 128.

    Order of a location's anchors, arguments and output are the parent's. The first level's stride
    has to divide the sides of the padded image, as those of all pyramids here do.
    """

    def generate_cell_anchors(self, sizes, aspect_ratios) -> Tensor:
        """Same interface as the parent's, (S * R, 4) XYXY pixels; rounded, halves to even."""
        return super().generate_cell_anchors(sizes, aspect_ratios).round()

    def _grid_anchors(self, grid_sizes: list[list[int]]) -> list[Tensor]:
        """Same interface as the parent's: (H * W * A, 4) for each level of (H, W) locations."""
        image_size = [int(n) * self.strides[0] for n in grid_sizes[0]]
        anchors = []
        for grid_size, cell_anchors in zip(grid_sizes, self.cell_anchors, strict=True):
            y, x = (
                (torch.arange(int(n), device=cell_anchors.device) + self.offset) * (side // int(n))
                for n, side in zip(grid_size, image_size, strict=True)
            )
            y, x = torch.meshgrid(y, x, indexing="ij")
            shifts = torch.stack([x, y, x, y], dim=-1).reshape(-1, 1, 4)
            anchors.append((shifts + cell_anchors).reshape(-1, 4))
        return anchors
