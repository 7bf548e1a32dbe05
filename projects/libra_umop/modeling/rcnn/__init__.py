"""Two-stage detectors: proposals, samplers, heads and their losses."""

from ...utils.lazy import offer

__all__, __getattr__, __dir__ = offer(
    __name__,
    {
        "box_predictor": "BalancedL1OutputLayers",
        "ohem": "OHEMROIHeads",
        "roi_heads": "LibraCascadeROIHeads LibraROIHeads LibraRes5ROIHeads",
        "rpn": "LibraRPN",
    },
)
