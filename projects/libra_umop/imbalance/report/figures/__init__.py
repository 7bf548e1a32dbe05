"""What the page draws, a file an imbalance."""

from ....utils.lazy import offer

__all__, __getattr__, __dir__ = offer(
    __name__, {"base": "Measured faint level_colour line run_colour style to_div"}
)
