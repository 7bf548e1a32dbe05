"""torchvision's detectors: their tensors by name, and the config that computes what they do."""

from ...utils.lazy import offer

__all__, __getattr__, __dir__ = offer(
    __name__,
    {
        "names": "from_torchvision is_torchvision_detector",
        "settings": "norm_eps_of torchvision_contradictions",
    },
)
