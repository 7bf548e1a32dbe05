"""What COCOEvaluator does not give."""

from ..utils import needs_detectron2  # noqa: F401
from ..utils.lazy import offer

__all__, __getattr__, __dir__ = offer(
    __name__, {"coco": "build_coco_evaluator", "tta": "build_tta_model"}
)
