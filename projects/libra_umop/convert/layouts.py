"""How a tensor is stored here and elsewhere: pairs of reorderings, each the other's inverse.

Letters: S anchor sizes and R aspect ratios per location, K channels per anchor, C feature channels.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["PATCH_MERGING", "SAME", "Layout", "anchor_layout"]


class Layout(NamedTuple):
    """Reorderings of one tensor: ``to_ours(theirs)`` and its inverse ``to_theirs(ours)``."""

    to_ours: Callable[[Tensor], Tensor]
    to_theirs: Callable[[Tensor], Tensor]


SAME = Layout(lambda tensor: tensor, lambda tensor: tensor)


def _permuted(order: Tensor, num_channels: int) -> Layout:
    """Blocks of ``num_channels`` rows: ours number i is theirs number ``order[i]``."""
    inverse = order.argsort()

    def reorder(tensor: Tensor, index: Tensor) -> Tensor:
        if tensor.shape[0] != len(index) * num_channels:
            return tensor  # not of this architecture; the shape check will say so
        return tensor.unflatten(0, (-1, num_channels))[index].flatten(0, 1)  # (len(index) * K, ...)

    return Layout(lambda tensor: reorder(tensor, order), lambda tensor: reorder(tensor, inverse))


def anchor_layout(*, num_sizes: int, num_ratios: int, num_channels: int) -> Layout:
    """Rows of a convolution over anchors, (S * R * K, ...).

    Detectron2 counts the anchors of a location size by size, mmdetection ratio by ratio: number
    s * R + r here is number r * S + s there.
    """
    order = torch.arange(num_sizes * num_ratios).view(num_ratios, num_sizes).t().flatten()
    return _permuted(order, num_channels)


def _patch_merging_order(num_inputs: int) -> Tensor:
    """Ours number i is theirs number ``order[i]``, of the 4 C inputs of a patch merging."""
    neighbours = torch.tensor([0, 2, 1, 3])  # theirs 2 * row + column, in our order
    channels = torch.arange(num_inputs // 4)
    return (4 * channels[None] + neighbours[:, None]).flatten()  # (4 C)


# The 4 C inputs of Swin's patch merging, along the last dimension. Here, as in the authors' code,
# neighbour by neighbour in the order (0, 0), (1, 0), (0, 1), (1, 1) of (row, column); in
# mmdetection channel by channel, the neighbours of a channel row by row.
PATCH_MERGING = Layout(
    lambda tensor: tensor[..., _patch_merging_order(tensor.shape[-1])],
    lambda tensor: tensor[..., _patch_merging_order(tensor.shape[-1]).argsort()],
)
