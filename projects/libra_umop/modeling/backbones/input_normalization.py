"""From the detector's normalisation of its input to that of a pretrained backbone."""

from typing import Optional, Sequence

import torch
from torch import Tensor, nn

__all__ = ["InputNormalization"]


class InputNormalization(nn.Module):
    """Per channel ``x[channels] * scale + shift``.

    What the detector pads with, 0, is a constant other than the backbone's mean colour after this; give
    the detector the backbone's own mean and std (then nothing of this is built) to pad with that.
    """

    def __init__(self, *, channels: Sequence[int], scale: Tensor, shift: Tensor):
        super().__init__()
        self.channels = list(channels)
        self.register_buffer("scale", scale.view(-1, 1, 1), persistent=False)
        self.register_buffer("shift", shift.view(-1, 1, 1), persistent=False)

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
            pixel_mean, pixel_std: the detector's, of pixels in 0 .. 255, in ``input_format``'s order.
            input_format: "RGB" or "BGR".
            rgb_mean, rgb_std: the backbone's, of pixels in 0 .. 1, in RGB.

        Raises:
            ValueError: for another ``input_format``, or another number of channels.
        """
        if input_format not in ("RGB", "BGR") or len(pixel_mean) != 3 or len(pixel_std) != 3:
            raise ValueError(
                f"INPUT.FORMAT is {input_format!r} with MODEL.PIXEL_MEAN {list(pixel_mean)}; a pretrained"
                " backbone sees 'RGB' or 'BGR'"
            )
        channels = [0, 1, 2] if input_format == "RGB" else [2, 1, 0]
        mean, std = torch.tensor([list(pixel_mean), list(pixel_std)], dtype=torch.float64)[:, channels]
        own_mean, own_std = torch.tensor([list(rgb_mean), list(rgb_std)], dtype=torch.float64) * 255
        scale, shift = (std / own_std).float(), ((mean - own_mean) / own_std).float()
        same = torch.allclose(scale, torch.ones(3), atol=1e-4)
        if channels == [0, 1, 2] and same and torch.allclose(shift, torch.zeros(3), atol=1e-4):
            return None
        return cls(channels=channels, scale=scale, shift=shift)

    def forward(self, image: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, 3, H, W)."""
        return image[:, self.channels] * self.scale + self.shift

    def extra_repr(self) -> str:
        return f"channels={self.channels}, scale={self.scale.flatten().tolist()}"
