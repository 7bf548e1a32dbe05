"""What the numbers mean in words, and which lever to try."""

from ...utils.lazy import offer

__all__, __getattr__, __dir__ = offer(__name__, {"finding": "Finding"})
