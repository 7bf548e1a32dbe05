"""What a run does beside its steps, a file a hook; Detectron2's nouns, or else mmengine's."""

from .best_checkpoint import BestCheckpointHook
from .checkpoint import PeriodicCheckpointer
from .ema import EMAHook
from .evaluation import EvalHook
from .logger import LoggerHook
from .stop_on_signal import StopOnSignal
from .writer import PeriodicWriter

__all__ = [
    "FORMER_NAMES",
    "BestCheckpointHook",
    "EMAHook",
    "EvalHook",
    "LoggerHook",
    "PeriodicCheckpointer",
    "PeriodicWriter",
    "StopOnSignal",
]

# Checkpoints keep the state of a hook under the name that its class had when they were written.
FORMER_NAMES = {
    "BestSoFar": "BestCheckpointHook",
    "Evaluate": "EvalHook",
    "WeightAverage": "EMAHook",
}
