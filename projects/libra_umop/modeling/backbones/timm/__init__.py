"""Backbones of timm."""
