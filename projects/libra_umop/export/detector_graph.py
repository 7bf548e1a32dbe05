"""A detector as a function of tensors alone, which is what tracing can follow."""

import torch
from detectron2.export.torchscript_patch import patch_builtin_len
from torch import Tensor, nn

from .verify import Detector

OUTPUT_NAMES = ("boxes", "scores", "classes")


class DetectorGraph(nn.Module):
    """Image in, boxes out, for any Detectron2 detector that follows the standard model format.

    The whole model is inside: normalising, padding, decoding, non-maximum suppression. Only the
    resizing of the photo to the test size is outside, as ``DefaultPredictor`` does it.

    Args:
        model: a detector; put into eval mode here.
    """

    input_name = "image"

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model
        self.eval()  # a wrapper left in training mode would put the model back into it after export

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The detections of one image.

        Args:
            image: (3, H, W) float32, values 0..255, channels in the order of ``INPUT.FORMAT``.

        Returns:
            Boxes (R, 4) as XYXY pixels of ``image``, scores (R,) float32, classes (R,) int64, by
            descending score; R may be 0.
        """
        with torch.no_grad(), patch_builtin_len():
            instances = self.model([{"image": image}])[0]["instances"]
            return instances.pred_boxes.tensor, instances.scores, instances.pred_classes

    def dynamic_axes(self) -> dict[str, dict[int, str]]:
        """What may vary, for ``torch.onnx.export``: the image's size, the number of detections."""
        detections = {name: {0: "detections"} for name in OUTPUT_NAMES}
        return {self.input_name: {1: "height", 2: "width"}, **detections}

    def example(self, images: list[Tensor]) -> Tensor:
        """An input of these images, (3, H, W) each: the first."""
        return images[0]

    def as_detector(self, run: Detector) -> Detector:
        """A function of one image: the graph itself."""
        return run
