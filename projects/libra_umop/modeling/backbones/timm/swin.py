"""What detectors need of timm's Swin that classifiers do not."""

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["pad_before_shift"]


def pad_before_shift(net: nn.Module) -> None:
    """Let the Swin blocks of ``net`` pad to whole windows before the cyclic shift, in place.

    timm shifts first and pads after. On a map that is not made of whole windows the rows that wrap
    around then lie before the padding, where the attention mask does not part them from their new
    neighbours: the top of the image attends to its bottom. The released Swin detectors pad first.
    On whole windows both are the same.
    """
    try:
        from timm.models.swin_transformer import SwinTransformerBlock
    except ImportError:
        return

    class PadFirstSwinTransformerBlock(SwinTransformerBlock):
        def _attn(self, x: Tensor) -> Tensor:
            """Attention over (shifted) windows of (N, H, W, C)."""
            height, width = x.shape[1:3]
            pad_height, pad_width = -height % self.window_size[0], -width % self.window_size[1]
            padded = F.pad(x, (0, 0, 0, pad_width, 0, pad_height))
            return super()._attn(padded)[:, :height, :width].contiguous()

    for module in net.modules():
        if type(module) is SwinTransformerBlock:
            module.__class__ = PadFirstSwinTransformerBlock
