"""ROIAlign (Mask R-CNN, https://arxiv.org/abs/1703.06870, section 3) as a sparse matrix product.

Every pooled value is a weighted sum of pixels, so pooling is the product of a sparse matrix and the
feature map, and its gradient that of the transposed matrix and the incoming gradient. On a CPU,
torch computes such products with all threads, over channels that lie side by side.

Axes: N images, C channels, R regions, P x Q bins of each, T non-zeros of a matrix.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F


class _SparseMatrix(NamedTuple):
    """Non-zeros row by row, as in the CSR format."""

    offsets: torch.Tensor  # the non-zero that each row starts with, and T at the end, int64
    columns: torch.Tensor  # (T,), int64
    values: torch.Tensor  # (T,), floating point

    def matmul(self, dense: torch.Tensor) -> torch.Tensor:
        """Product with a dense matrix."""
        return F.embedding_bag(
            self.columns,
            dense,
            self.offsets,
            mode="sum",
            per_sample_weights=self.values,
            include_last_offset=True,
        )

    def transpose(self, num_columns: int) -> "_SparseMatrix":
        row = torch.arange(len(self.offsets) - 1).repeat_interleave(self.offsets.diff())
        order = self.columns.argsort(stable=True)
        offsets = _offsets(self.columns.bincount(minlength=num_columns))
        return _SparseMatrix(offsets, row[order], self.values[order])


class _SparseMatmul(torch.autograd.Function):
    """``matrix @ dense``. Torch's own gradient of embedding_bag takes twice the time."""

    @staticmethod
    def forward(ctx: Any, dense: torch.Tensor, *matrix: torch.Tensor) -> torch.Tensor:
        """The product, (rows, C), of the matrix, in its parts, and a dense one, (columns, C)."""
        ctx.save_for_backward(*matrix)
        ctx.num_columns = len(dense)
        return _SparseMatrix(*matrix).matmul(dense)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple:
        """The gradient of the dense matrix."""
        matrix = _SparseMatrix(*ctx.saved_tensors).transpose(ctx.num_columns)
        return matrix.matmul(grad.contiguous()), None, None, None


def sparse_roi_align(
    features: torch.Tensor,
    rois: torch.Tensor,
    output_size: tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = 0,
    aligned: bool = True,
) -> torch.Tensor:
    """What :func:`torchvision.ops.roi_align` computes, up to rounding.

    Args:
        features: (N, C, H, W), float32 or float64, on the CPU.
        rois: of each region, the index of its image in [0, N) and its box, XYXY pixels of the
            image, (R, 5), dtype of ``features``; not differentiated.
        output_size: (P, Q), the bins of a region along y and along x.
        spatial_scale: size of the feature map over that of the image.
        sampling_ratio: points along each side of a bin; <= 0 is one for each pixel of the feature
            map that the side begins.
        aligned: whether the first pixel's center is at 0.5. If not it is at 0, and no side of a
            region counts as shorter than a pixel of the feature map.

    Returns:
        The mean over the points of each bin, (R, C, P, Q). Points that are more than a pixel
        outside of the feature map count as 0.

    Raises:
        ValueError: ``features`` or ``rois`` is of another shape, or ``features`` elsewhere.

    Examples:
        >>> features = torch.arange(16.0).view(1, 1, 4, 4)
        >>> rois = torch.tensor([[0.0, 0.0, 0.0, 4.0, 4.0]])  # the whole of image 0
        >>> sparse_roi_align(features, rois, (2, 2))  # the mean of each quarter
        tensor([[[[ 2.5000,  4.5000],
                  [10.5000, 12.5000]]]])
    """
    if features.dim() != 4 or rois.dim() != 2 or rois.shape[1] != 5:
        shapes = f"features and rois are {tuple(features.shape)} and {tuple(rois.shape)}"
        raise ValueError(f"{shapes}, should be (N, C, H, W) and (R, 5)")
    if features.device.type != "cpu":
        raise ValueError(f"features.device is {features.device}, should be cpu")
    channels, height, width = features.shape[1:]
    num_bins_y, num_bins_x = output_size
    if len(rois) == 0:
        return features[:0, :, :1, :1].expand(0, channels, num_bins_y, num_bins_x)
    with torch.no_grad():
        x0, y0, x1, y1 = (rois[:, 1:] * spatial_scale - (0.5 if aligned else 0.0)).unbind(dim=1)
        length_y, length_x = y1 - y0, x1 - x0
        if not aligned:
            length_y, length_x = length_y.clamp(min=1), length_x.clamp(min=1)
        weights_y = _bin_weights(y0, length_y, num_bins_y, height, sampling_ratio)
        weights_x = _bin_weights(x0, length_x, num_bins_x, width, sampling_ratio)
        first_row = rois[:, 0].long() * height  # of each region's image, images on top of another
        matrix = _outer_product(weights_y, weights_x, output_size, first_row, width)
    pixels = features.permute(0, 2, 3, 1).reshape(-1, channels)  # (NHW, C)
    pooled = _SparseMatmul.apply(pixels, *matrix)  # (RPQ, C)
    return pooled.view(len(rois), num_bins_y, num_bins_x, channels).permute(0, 3, 1, 2)


def _bin_weights(
    start: torch.Tensor, length: torch.Tensor, num_bins: int, num_pixels: int, sampling_ratio: int
) -> _SparseMatrix:
    """The mean of the points of each bin along one axis, (R * num_bins, num_pixels).

    ``start`` and ``length`` of the regions are in pixels of that axis, (R,).
    """
    bin_length = (length / num_bins)[:, None, None]
    num_points = bin_length.ceil() if sampling_ratio <= 0 else bin_length * 0 + sampling_ratio
    divisor = num_points.clamp(min=1)
    point = torch.arange(int(divisor.max()), dtype=start.dtype)
    offset = torch.arange(num_bins, dtype=start.dtype)[:, None] * bin_length
    position = start[:, None, None] + offset + (point + 0.5) * bin_length / divisor
    counts = (point < num_points) & (position >= -1) & (position <= num_pixels)
    weight = counts / divisor  # (R, num_bins, max points)
    position = torch.where(counts, position, position[:, :, :1]).clamp(0, num_pixels - 1)
    low = position.long()
    weight_of_next = (position - low) * weight

    # The points of a bin share pixels: each is listed once.
    first = low.amin(dim=2, keepdim=True)
    span = int((low - first).max()) + 2
    window = weight.new_zeros(*low.shape[:2], span)
    window.scatter_add_(2, low - first, weight - weight_of_next)
    window.scatter_add_(2, low - first + 1, weight_of_next)
    used = window != 0
    pixels = first + torch.arange(span)
    return _SparseMatrix(_offsets(used.sum(dim=2).flatten()), pixels[used], window[used])


def _outer_product(
    weights_y: _SparseMatrix,
    weights_x: _SparseMatrix,
    output_size: tuple[int, int],
    first_row: torch.Tensor,
    width: int,
) -> _SparseMatrix:
    """Of each region, the products of its rows of both matrices, (RPQ, NHW)."""
    shape = (len(first_row), *output_size)
    bin_y = torch.arange(shape[0] * shape[1]).view(-1, shape[1], 1).expand(shape).flatten()
    bin_x = torch.arange(shape[0] * shape[2]).view(-1, 1, shape[2]).expand(shape).flatten()
    of_bin, y = _entries(weights_y, bin_y)
    of_line, x = _entries(weights_x, bin_x[of_bin])
    row = weights_y.columns[y] + first_row[bin_y[of_bin] // shape[1]]
    columns = (row * width)[of_line] + weights_x.columns[x]
    values = weights_y.values[y][of_line] * weights_x.values[x]
    num_y, num_x = weights_y.offsets.diff(), weights_x.offsets.diff()
    return _SparseMatrix(_offsets(num_y[bin_y] * num_x[bin_x]), columns, values)


def _entries(matrix: _SparseMatrix, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The non-zeros of ``rows``, row after row: of which element of ``rows``, and which."""
    counts = matrix.offsets.diff()[rows]
    of_row = torch.arange(len(rows)).repeat_interleave(counts)
    shift = matrix.offsets[rows] - (counts.cumsum(dim=0) - counts)
    return of_row, shift[of_row] + torch.arange(len(of_row))


def _offsets(counts: torch.Tensor) -> torch.Tensor:
    return F.pad(counts.cumsum(dim=0), (1, 0))
