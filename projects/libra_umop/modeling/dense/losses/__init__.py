"""Losses of dense detectors; importing this package registers those that a config can name."""

from . import focal, hard_negatives  # noqa: F401
