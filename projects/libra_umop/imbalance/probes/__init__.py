"""What looks at a training step and writes what it sees."""

from ...utils.lazy import offer

__all__, __getattr__, __dir__ = offer(__name__, {"collector": "ImbalanceCollector"})
