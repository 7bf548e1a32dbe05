"""The balanced feature pyramid as a backbone around any other pyramid."""

from typing import Any

import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone

from ...functional.balanced_pyramid import BalancedFeaturePyramid

__all__ = ["BFP", "build_bfp_backbone"]


class BFP(Backbone):
    """A pyramid whose levels are strengthened by :class:`BalancedFeaturePyramid`.

    Its outputs have the names, shapes and strides of the pyramid inside, and its inputs the same
    constraints.

    In a state dict the pyramid's weights have the names that they have without BFP, and the
    refinement adds ``balance.*``: ``fpn_lateral2.weight``, not ``pyramid.fpn_lateral2.weight``. So
    weights of a detector without BFP load into one with it and back, in every checkpointer. The
    names with ``pyramid.``, which version 0.1.0 wrote, load too. Modules of the pyramid are reached
    by the same names: ``bfp.bottom_up`` is ``bfp.pyramid.bottom_up``.

    Args:
        pyramid: a backbone that returns levels of one channel width.
        refine_level: name of the level at whose size the levels are averaged and refined.
        refine_type: "non_local", "conv" or "none".
        precision: of the attention under autocast, "float32" or "autocast".

    Raises:
        ValueError: the pyramid has no such level, or levels of different widths.
    """

    def __init__(
        self,
        *,
        pyramid: Backbone,
        refine_level: str = "p4",
        refine_type: str = "non_local",
        precision: str = "float32",
    ):
        super().__init__()
        self._shapes = pyramid.output_shape()
        self._levels = sorted(self._shapes, key=lambda name: self._shapes[name].stride)
        channels = {shape.channels for shape in self._shapes.values()}
        if refine_level not in self._levels:
            raise ValueError(
                f"MODEL.BFP.REFINE_LEVEL is {refine_level!r}, should be one of {self._levels}"
            )
        if len(channels) != 1:
            raise ValueError(
                f"channels of the levels are {sorted(channels)}, should be of one width for BFP"
            )
        self.pyramid = pyramid
        self.balance = BalancedFeaturePyramid(
            channels.pop(),
            self._levels.index(refine_level),
            refine_type,
            precision=precision,
        )

    @property
    def size_divisibility(self) -> int:
        """That of the pyramid."""
        return self.pyramid.size_divisibility

    @property
    def padding_constraints(self) -> dict[str, int]:
        """Those of the pyramid."""
        return self.pyramid.padding_constraints

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """The pyramid's levels, balanced.

        Args:
            x: images, (N, 3, H, W).

        Returns:
            The balanced levels by name, finest first.
        """
        features = self.pyramid(x)
        balanced = self.balance([features[name] for name in self._levels])
        return dict(zip(self._levels, balanced, strict=True))

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of each level, as the pyramid's own."""
        return {name: self._shapes[name] for name in self._levels}

    def state_dict(self, *args: Any, prefix: str = "", **kwargs: Any) -> dict[str, Any]:
        """Same interface as :meth:`nn.Module.state_dict`, under the names of the pyramid alone."""
        state = super().state_dict(*args, prefix=prefix, **kwargs)
        inside = f"{prefix}pyramid."
        for name in [name for name in state if name.startswith(inside)]:
            state[prefix + name[len(inside) :]] = state.pop(name)
        return state

    def _load_from_state_dict(self, state_dict, prefix, *args):
        """Give the names of :meth:`state_dict` back their ``pyramid.`` before the children load."""
        own = (f"{prefix}pyramid.", f"{prefix}balance.")
        names = [n for n in state_dict if n.startswith(prefix) and not n.startswith(own)]
        for name in names:
            state_dict[own[0] + name[len(prefix) :]] = state_dict.pop(name)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def __getattr__(self, name: str) -> Any:
        """A checkpointer walks to the module of a weight that does not fit by its stored name."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            pyramid = self.__dict__.get("_modules", {}).get("pyramid")
            if pyramid is None or name.startswith("__"):
                raise
            return getattr(pyramid, name)


@BACKBONE_REGISTRY.register()
def build_bfp_backbone(cfg, input_shape: ShapeSpec) -> BFP:
    """The pyramid that the config names, balanced.

    Args:
        cfg: a CfgNode; ``MODEL.BFP.PYRAMID`` names the registered pyramid that is balanced.
        input_shape: of the images.

    Returns:
        The pyramid inside a :class:`BFP`.
    """
    name = cfg.MODEL.BFP.PYRAMID
    if name == "build_bfp_backbone":
        raise ValueError(f"MODEL.BFP.PYRAMID is {name!r}, should be a pyramid and not BFP itself")
    return BFP(
        pyramid=BACKBONE_REGISTRY.get(name)(cfg, input_shape),
        refine_level=cfg.MODEL.BFP.REFINE_LEVEL,
        refine_type=cfg.MODEL.BFP.REFINE_TYPE,
        precision=cfg.MODEL.BFP.PRECISION,
    )
