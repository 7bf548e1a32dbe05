"""From photos to detections: the predictor, its inputs and outputs."""

from ..utils import needs_detectron2  # noqa: F401
