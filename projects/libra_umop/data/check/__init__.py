"""Looking at data before training on it."""

from ...utils.lazy import offer

__all__, __getattr__, __dir__ = offer(
    __name__, {"checking": "check_dataset", "report": "as_json as_text", "areas": "count_areas"}
)
