"""Making a validation split of a dataset that has none."""

from ...utils.lazy import offer

__all__, __getattr__, __dir__ = offer(__name__, {"division": "divide"})
