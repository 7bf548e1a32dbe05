"""What dense detectors learn of boxes: where they are, and how central a location is in one."""

from .....utils.lazy import offer

__all__, __getattr__, __dir__ = offer(
    __name__, {"box_loss": "DenseBoxLoss decode_boxes", "centerness": "centerness_loss_sum"}
)
