"""What a config's model costs: parameters, and multiply-adds as fvcore counts them."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from unittest import mock

import torch
from detectron2.modeling import build_model
from detectron2.modeling.roi_heads import CascadeROIHeads, Res5ROIHeads
from fvcore.nn.jit_handles import conv_flop_count
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from libra_umop.config.loading import load_config
from libra_umop.modeling.backbones.timm.models import without_pretrained

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
IMAGE_SIZE = (800, 1344)


class DenseForward(nn.Module):
    """The part of a detector that multiplies: from the normalised image to all raw outputs.

    A two-stage detector's heads see as many proposals as it keeps in testing.
    """

    def __init__(self, model: nn.Module, num_proposals: int, num_detections: int):
        super().__init__()
        self.model = model
        self.num_proposals, self.num_detections = num_proposals, num_detections

    def forward(self, image: Tensor) -> list[Tensor]:
        """All raw outputs for one image, (1, 3, H, W)."""
        model = self.model
        features = model.backbone(image)
        if hasattr(model, "head"):
            outputs = model.head([features[name] for name in model.head_in_features])
            return [tensor for level in outputs for tensor in level]
        rpn = model.proposal_generator
        logits, deltas = rpn.rpn_head([features[name] for name in rpn.in_features])
        return [*logits, *deltas, *self._regions(next(iter(features.values())))]

    def _regions(self, feature: Tensor) -> list[Tensor]:
        heads, channels = self.model.roi_heads, feature.shape[1]
        outputs: list[Tensor] = []
        if isinstance(heads, Res5ROIHeads):
            pooled = feature.new_zeros(self.num_proposals, channels, *heads.pooler.output_size)
            return list(heads.box_predictor(heads.res5(pooled).mean(dim=[2, 3])))
        is_cascade = isinstance(heads, CascadeROIHeads)
        box_heads = heads.box_head if is_cascade else [heads.box_head]
        predictors = heads.box_predictor if is_cascade else [heads.box_predictor]
        for box_head, predictor in zip(box_heads, predictors, strict=True):
            pooled = feature.new_zeros(self.num_proposals, channels, *heads.box_pooler.output_size)
            outputs += predictor(box_head(pooled))
        if heads.mask_on:
            size = heads.mask_pooler.output_size
            pooled = feature.new_zeros(self.num_detections, channels, *size)
            outputs.append(heads.mask_head.layers(pooled))
        return outputs


def build(name: str, device: str) -> DenseForward:
    """The model of a config at its full size, without pretrained weights, in eval mode."""
    cfg = without_pretrained(load_config(str(CONFIGS / name)))
    cfg.MODEL.DEVICE = device
    with torch.device(device):
        model = build_model(cfg)
    num_proposals = cfg.MODEL.RPN.POST_NMS_TOPK_TEST
    return DenseForward(model, num_proposals, cfg.TEST.DETECTIONS_PER_IMAGE).eval()


def num_params(model: nn.Module) -> int:
    """Trainable and frozen parameters; frozen batch norms have none, as Detectron2 counts."""
    return sum(parameter.numel() for parameter in model.parameters())


class OperationCounter(TorchDispatchMode):
    """Multiply-adds as ``fvcore.nn.FlopCountAnalysis`` counts them, in ``total``.

    fvcore reads them off a trace, which needs a run on data. This counts by the same rules while
    the network runs on the meta device, where nothing is computed; a test compares the two.
    """

    def __init__(self):
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        count = COUNTS.get(func.overloadpacket)
        self.total += count(args, out) if count else 0
        return out


def _norm(flops: int) -> Callable:
    return lambda args, out: flops * args[0].numel()


aten = torch.ops.aten
COUNTS = {
    aten.convolution: lambda a, out: conv_flop_count(a[0].shape, a[1].shape, out.shape, a[6]),
    torch.ops.torchvision.deform_conv2d: lambda a, out: conv_flop_count(
        a[0].shape, a[1].shape, out.shape
    ),
    aten.mm: lambda a, out: a[0].numel() * a[1].shape[1],
    aten.addmm: lambda a, out: a[1].numel() * a[2].shape[1],
    aten.bmm: lambda a, out: a[0].numel() * a[1].shape[2],
    aten.native_layer_norm: _norm(5),
    aten.native_group_norm: _norm(5),
    aten.native_batch_norm: _norm(2),
    aten._native_batch_norm_legit_no_training: _norm(2),
    aten.upsample_nearest2d: lambda a, out: out.numel(),
}


def count_operations(model: DenseForward, image_size: Sequence[int] = IMAGE_SIZE) -> int:
    """Multiply-adds of a model on the meta device for one image, by fvcore's rules."""
    image = torch.empty(1, 3, *image_size, device="meta")
    no_autocast = mock.patch.object(torch, "autocast", lambda *args, **kwargs: nullcontext())
    with no_autocast, torch.no_grad(), OperationCounter() as counter:  # it knows no meta device
        model(image)
    return counter.total


def measure(name: str) -> dict[str, str]:
    """The columns ``params_m`` and ``gflops`` of a config."""
    model = build(name, "meta")
    gflops = count_operations(model) / 1e9
    return {"params_m": f"{num_params(model) / 1e6:.1f}", "gflops": f"{gflops:.0f}"}
