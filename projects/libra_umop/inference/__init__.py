"""From photos to detections: the predictor, its inputs and outputs."""

from ..utils import needs_detectron2  # noqa: F401
from ..utils.lazy import offer

__all__, __getattr__, __dir__ = offer(
    __name__,
    {
        "inputs": "find_inputs",
        "predictor": "LibraPredictor",
        "run": "PredictionRun",
        "sliced": "TiledPredictor with_tiles",
    },
)
