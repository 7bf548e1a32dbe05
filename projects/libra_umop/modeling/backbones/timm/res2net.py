"""Where reference implementations of Res2Net differ from the authors' and timm's."""

from torch import nn

__all__ = ["skip_pool_at_stride_1"]


def skip_pool_at_stride_1(net: nn.Module) -> None:
    """Pass on the last split of res2's first block as it is, as mmdetection does, in place.

    The authors and timm average it over 3x3 there too, as in the stages that halve their input.
    """
    from timm.models.res2net import Bottle2neck

    for module in net.modules():
        if isinstance(module, Bottle2neck) and module.pool is not None and module.pool.stride == 1:
            module.register_module("pool", nn.Identity())
