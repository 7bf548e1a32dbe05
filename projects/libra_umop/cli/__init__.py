"""What the command lines share."""

from ..utils.lazy import offer

__all__, __getattr__, __dir__ = offer(__name__, {"__main__": "COMMANDS main"})
