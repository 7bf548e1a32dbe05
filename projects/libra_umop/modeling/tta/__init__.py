"""Testing with several views of an image: detectors around detectors, and how views are merged."""

from ...utils.lazy import offer

__all__, __getattr__, __dir__ = offer(
    __name__,
    {
        "dense": "DenseDetectorWithTTA",
        "rcnn": "RCNNWithTTA",
        "view_merging": "ViewMerging",
    },
)
