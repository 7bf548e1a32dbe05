"""Numbers out of what the probes wrote."""

from ...utils.lazy import offer

__all__, __getattr__, __dir__ = offer(__name__, {"measure": "measure_run"})
