"""Tiny dense detectors and inputs for tests: a pyramid of one convolution a level, 4 classes."""

import torch
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY, Backbone, build_model
from detectron2.utils.events import EventStorage
from torch import nn
from torch.nn import functional as F

from libra_umop.config import add_libra_umop_config
from libra_umop.modeling.backbones.deformable import DeformConv2d
from testing.batches import make_batch

NUM_CLASSES = 4
CHANNELS = 64  # two for each of the 32 groups of GN, which refuses to normalise a single value
LEVELS = ("p3", "p4", "p5", "p6", "p7")
UMOP_DETECTORS = ("UMOPRetinaNet", "UMOPATSS", "UMOPFCOS")
EDGE_DISTANCE_DETECTORS = ("GFL", "VFNet")  # whose class score is the box's quality
DETECTORS = (
    *("LibraRetinaNet", "UMOPRetinaNet", "ATSS", "UMOPATSS", "FCOS", "UMOPFCOS"),
    *EDGE_DISTANCE_DETECTORS,
)


class TinyPyramid(Backbone):
    """P3..P7: a convolution of stride 8, then one of stride 2 for each further level."""

    def __init__(self, channels=CHANNELS):
        super().__init__()
        self.channels = channels
        self.stem = nn.Conv2d(3, channels, 8, stride=8)
        self.down = nn.ModuleList(nn.Conv2d(channels, channels, 3, 2, 1) for _ in LEVELS[1:])

    @property
    def size_divisibility(self):
        return 32

    def forward(self, x):
        features = [F.relu(self.stem(x))]
        for conv in self.down:
            features.append(F.relu(conv(features[-1])))
        return dict(zip(LEVELS, features, strict=True))

    def output_shape(self):
        return {f"p{i}": ShapeSpec(channels=self.channels, stride=2**i) for i in range(3, 8)}


if "build_tiny_pyramid" not in BACKBONE_REGISTRY:

    @BACKBONE_REGISTRY.register()
    def build_tiny_pyramid(cfg, input_shape):
        """The pyramid of these tests."""
        return TinyPyramid()


def keys_of(name):
    """The group of config keys below MODEL that a detector reads."""
    return getattr(META_ARCH_REGISTRY.get(name), "keys", "RETINANET")


def tiny_cfg(name, *opts):
    """A config of detector ``name``; ``opts`` are keys and values."""
    cfg = get_cfg()
    add_libra_umop_config(cfg)
    cfg.MODEL.META_ARCHITECTURE = name
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.PIXEL_STD = [57.375, 57.120, 58.395]
    cfg.MODEL.BACKBONE.NAME = "build_tiny_pyramid"
    if keys_of(name) == "ATSS":
        cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[64], [128], [256], [512], [1024]]
        cfg.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS = [[1.0]]
    else:
        sizes = [[x, 1.26 * x, 1.59 * x] for x in (32, 64, 128, 256, 512)]
        cfg.MODEL.ANCHOR_GENERATOR.SIZES = sizes
    for node in (cfg.MODEL.RETINANET, cfg.MODEL.ATSS, cfg.MODEL.FCOS):
        node.NUM_CLASSES = NUM_CLASSES
        node.NUM_CONVS = 1
    cfg.merge_from_list(list(opts))
    return cfg


def tiny_model(name, *opts, seed=0):
    """A detector with the same weights for the same ``seed``, in training mode."""
    torch.manual_seed(seed)
    return build_model(tiny_cfg(name, *opts)).train()


@torch.no_grad()
def spread_scores(model):
    """Let the head tell locations apart; at the start all its class scores are nearly equal."""
    star = [model.head.cls_conv] if hasattr(model.head, "cls_conv") else []  # VFNet's
    for module in (*model.head.cls_subnet, *star, model.head.cls_score):
        if isinstance(module, (nn.Conv2d, DeformConv2d)):
            module.weight.normal_(std=0.1)


def train_step(model, batch):
    """Losses and gradients by name of one step."""
    model.zero_grad()
    with EventStorage():
        losses = model(batch)
    sum(losses.values()).backward()
    return losses, {name: p.grad.clone() for name, p in model.named_parameters()}


def assert_same_step(model, parent, batch):
    """Losses and gradients of ``model`` are those of ``parent``, up to rounding."""
    expected, expected_grads = train_step(parent, batch)
    losses, grads = train_step(model, batch)
    assert losses.keys() == expected.keys()
    for key in losses:
        torch.testing.assert_close(losses[key], expected[key], rtol=1e-5, atol=1e-8)
    for key in grads:
        torch.testing.assert_close(grads[key], expected_grads[key], rtol=1e-4, atol=1e-7)


def assert_same_detections(model, parent):
    """Detections of ``model`` are those of ``parent``, bit for bit, and there are some."""
    with torch.no_grad():
        expected, ours = (m(make_batch())[0]["instances"] for m in (parent, model))
    assert len(ours) > 0
    assert torch.equal(ours.pred_boxes.tensor, expected.pred_boxes.tensor)
    assert torch.equal(ours.scores, expected.scores)
