"""What a config must say for torchvision's weights to give torchvision's outputs."""

from detectron2.config import CfgNode
from torch import Tensor

from ...errors import ConfigError
from ..checks import differing, has_anchors, imagenet_contradictions, is_two_stage
from .names import COCO_LABELS, COUNTER, num_labels

__all__ = ["norm_eps_of", "torchvision_contradictions", "torchvision_remarks"]

# (32, 64, ... 512) times 1, 2^(1/3), 2^(2/3), rounded down.
RETINANET_SIZES = [
    [side, int(side * 2 ** (1 / 3)), int(side * 2 ** (2 / 3))] for side in (32, 64, 128, 256, 512)
]
RCNN_SIZES = [[32], [64], [128], [256], [512]]


def norm_eps_of(theirs: dict[str, Tensor], given: float | None, path: str) -> float:
    """What their batch norms add to the variance, which the file does not say.

    Batch norms that training moves (they count its steps) and FCOS have 1e-5. Frozen ones have it
    too, but for Faster R-CNN and RetinaNet that started from torchvision's published COCO weights,
    whose code sets it to 0 after loading them.

    Args:
        theirs: tensors by their names.
        given: what the person says; None to find out.
        path: what the message calls the file.

    Raises:
        ConfigError: frozen norms of a detector of other classes than COCO's, and nothing given.
    """
    if given is not None:
        return given
    if any(map(COUNTER.fullmatch, theirs)) or "head.regression_head.bbox_ctrness.bias" in theirs:
        return 1e-5
    if num_labels(theirs) == COCO_LABELS:
        return 0.0
    raise ConfigError(
        f"{path} does not tell what its frozen batch norms add to the variance, nothing was"
        " written: say --norm-eps 0 if its training started from torchvision's published COCO"
        " weights, --norm-eps 1e-5 if from ImageNet's"
    )


def torchvision_contradictions(cfg: CfgNode) -> list[str]:
    """``KEY VALUE`` pairs that would make ``cfg`` compute what torchvision's detectors do."""
    wanted = imagenet_contradictions(cfg)
    wanted += differing(cfg, "MODEL.ANCHOR_GENERATOR.NAME", "TorchvisionAnchorGenerator")
    if has_anchors(cfg):
        sizes = RCNN_SIZES if is_two_stage(cfg) else RETINANET_SIZES
        wanted += differing(cfg, "MODEL.ANCHOR_GENERATOR.SIZES", sizes)
        wanted += differing(cfg, "MODEL.ANCHOR_GENERATOR.OFFSET", 0.0)
    if is_two_stage(cfg):
        wanted += differing(cfg, "MODEL.ROI_BOX_HEAD.POOLER_TYPE", "ROIAlign")
        return wanted + differing(cfg, "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO", 2)
    wanted += differing(cfg, "MODEL.FPN.P7_RELU", True)
    return wanted + differing(cfg, "MODEL.FPN.TOP_IN_FEATURE", "p5")


def torchvision_remarks(cfg: CfgNode, norm_eps: float) -> list[str]:
    """What the person should know beside the tensors."""
    lines = [f"their batch norms are taken to add {norm_eps:g} to the variance (--norm-eps)"]
    if not is_two_stage(cfg) and has_anchors(cfg) and cfg.TEST.DETECTIONS_PER_IMAGE != 300:
        lines.append("torchvision keeps 300 boxes an image: TEST.DETECTIONS_PER_IMAGE 300")
    return lines
