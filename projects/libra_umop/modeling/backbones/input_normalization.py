"""From the detector's normalisation of its input to that of a pretrained backbone."""

from collections.abc import Sequence
from typing import Optional

import torch
from torch import Tensor, nn

__all__ = ["InputNormalization"]


class InputNormalization(nn.Module):
    """Per channel ``x[channels] * scale + shift``.

    What the detector pads with, 0, is a constant other than the backbone's mean colour after this;
    give the detector the backbone's own mean and std (then nothing of this is built) to pad with
    that.
    """

    def __init__(self, *, channels: Sequence[int], scale: Tensor, shift: Tensor):
        super().__init__()
        self.channels = list(channels)
        self.register_buffer("scale", scale.view(-1, 1, 1), persistent=False)
        self.register_buffer("shift", shift.view(-1, 1, 1), persistent=False)

    channels: list[int]
    scale: Tensor
    shift: Tensor

    @classmethod
    def between(
        cls,
        *,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        input_format: str,
        rgb_mean: Sequence[float],
        rgb_std: Sequence[float],
    ) -> Optional["InputNormalization"]:
        """The map from one normalisation to the other; None where they agree to 1e-4 of a std.

        Args:
            pixel_mean, pixel_std: the detector's, of pixels in 0 .. 255, in ``input_format``'s
                order.
            input_format: "RGB" or "BGR".
            rgb_mean, rgb_std: the backbone's, of pixels in 0 .. 1, in RGB.

        Raises:
            ValueError: for another ``input_format``, or another number of channels.
        """
        if input_format not in ("RGB", "BGR") or len(pixel_mean) != 3 or len(pixel_std) != 3:
            raise ValueError(
                f"INPUT.FORMAT is {input_format!r} with MODEL.PIXEL_MEAN {list(pixel_mean)};"
                " a pretrained backbone sees 'RGB' or 'BGR'"
            )
        channels = [0, 1, 2] if input_format == "RGB" else [2, 1, 0]
        scale = [pixel_std[c] / (255 * std) for c, std in zip(channels, rgb_std, strict=True)]
        shift = [
            (pixel_mean[c] - 255 * mean) / (255 * std)
            for c, mean, std in zip(channels, rgb_mean, rgb_std, strict=True)
        ]
        if input_format == "RGB" and max(abs(s - 1) for s in scale) < 1e-4 > max(map(abs, shift)):
            return None
        return cls(channels=channels, scale=torch.tensor(scale), shift=torch.tensor(shift))

    def forward(self, image: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, 3, H, W)."""
        return image[:, self.channels] * self.scale + self.shift

    def extra_repr(self) -> str:
        """What is printed of it."""
        return f"channels={self.channels}, scale={self.scale.flatten().tolist()}"
