"""Shipping a trained detector: TorchScript and ONNX files that give the model's own boxes."""

from ..utils.lazy import offer

FORMATS = ("torchscript", "onnx")
DEFAULT_OPSET = 17
# From the first with all operators that the graphs need to the last of torch's tracing exporter.
OPSETS = range(13, 21)

__all__, __getattr__, __dir__ = offer(__name__, {"exporter": "export_detector"})
__all__ += ["DEFAULT_OPSET", "FORMATS", "OPSETS"]
