"""Backbones of timm."""

from ....utils.lazy import offer

__all__, __getattr__, __dir__ = offer(__name__, {"builder": "TimmBackbone build_timm_backbone"})
