"""Where a data set of one's own keeps its images and annotations."""

from ...utils.lazy import offer

__all__, __getattr__, __dir__ = offer(__name__, {"reading.layout": "Split", "table": "find_splits"})
