"""Checkpoints of other projects to this one and back: tensors by name, shape and layout."""

from ..utils.lazy import offer

__all__, __getattr__, __dir__ = offer(
    __name__, {"run": "convert_from convert_to_mmdet fetch_timm_weights"}
)
