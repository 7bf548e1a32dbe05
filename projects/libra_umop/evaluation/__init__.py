"""What COCOEvaluator does not give."""

from ..utils import needs_detectron2  # noqa: F401
