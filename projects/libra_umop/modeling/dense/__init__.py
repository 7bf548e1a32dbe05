"""Dense detectors and what they share."""

from ...utils.lazy import offer

__all__, __getattr__, __dir__ = offer(
    __name__,
    {
        "atss": "ATSS UMOPATSS",
        "fcos": "FCOS UMOPFCOS",
        "retinanet": "LibraRetinaNet UMOPRetinaNet",
        "detector": "DenseLosses",
    },
)
