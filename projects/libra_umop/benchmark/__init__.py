"""What a step costs: drawn-up inputs, steps in turns, and the tables made of their times."""

from ..utils.lazy import offer

STEPS = ("train_step", "inference")

__all__, __getattr__, __dir__ = offer(__name__, {"bench": "Contender", "inputs": "Workload"})
__all__ += ["STEPS"]
