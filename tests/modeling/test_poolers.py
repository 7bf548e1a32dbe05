"""Oracles: the same heads with Detectron2's ROIAlign, and its own modules where ours steps back."""

import pytest
import torch
from detectron2.layers import ROIAlign
from detectron2.modeling.poolers import ROIPooler
from detectron2.structures import Instances
from detectron2.utils.events import EventStorage
from torch import nn

from libra_umop.modeling import SparseROIAlign, use_sparse_roi_align
from libra_umop.modeling.rcnn import poolers
from testing.batches import a_batch, a_target
from testing.tiny_rcnn import tiny_config, tiny_model

ALL_HEADS = ["MODEL.MASK_ON", True, "MODEL.KEYPOINT_ON", True]
HEADS = [
    ("faster_rcnn_R_50_FPN_1x", "LibraROIHeads"),
    ("cascade_rcnn_R_50_FPN_1x", "LibraCascadeROIHeads"),
    ("faster_rcnn_R_50_FPN_1x", "OHEMROIHeads"),
]


def a_model(config, head, sparse):
    options = ["MODEL.ROI_HEADS.NAME", head, "MODEL.ROI_HEADS.SPARSE_ROI_ALIGN", sparse]
    return tiny_model(tiny_config(config, [*options, *ALL_HEADS]))


def losses_and_gradients(model, num_boxes):
    """Of the heads alone, in float64, in which no activation near zero changes sign by rounding."""
    torch.manual_seed(1)
    heads, size = model.roi_heads.double(), (64, 96)
    features = {
        name: torch.randn(
            *(len(num_boxes), shape.channels, size[0] // shape.stride, size[1] // shape.stride),
            dtype=torch.float64,
            requires_grad=True,
        )
        for name, shape in model.backbone.output_shape().items()
    }
    targets = [a_target(n, size) for n in num_boxes]
    boxes = [a_target(40, size).gt_boxes for _ in num_boxes]
    proposals = [
        Instances(size, proposal_boxes=b, objectness_logits=torch.zeros(len(b))) for b in boxes
    ]
    with EventStorage():
        _, losses = heads(None, features, proposals, targets)
        sum(losses.values()).backward()
    leaves = {**features, **dict(heads.named_parameters())}
    return losses, {name: x.grad for name, x in leaves.items()}


def count_calls(monkeypatch):
    calls = []
    pool = poolers.sparse_roi_align
    monkeypatch.setattr(poolers, "sparse_roi_align", lambda *a: calls.append(1) or pool(*a))
    return calls


@pytest.mark.parametrize("config, head", HEADS)
@pytest.mark.parametrize("num_boxes", [(3, 2), (3, 0)])
def test_heads_learn_the_same_with_and_without_it(monkeypatch, config, head, num_boxes):
    calls, seen = count_calls(monkeypatch), []
    for sparse in (False, True):
        model = a_model(config, head, sparse)
        seen.append((*losses_and_gradients(model, num_boxes), list(model.state_dict()), len(calls)))
    (losses, gradients, names, no_calls), (our_losses, our_gradients, our_names, our_calls) = seen
    assert no_calls == 0 and our_calls >= 3 * 4  # boxes, masks and keypoints, of four levels
    assert our_names == names
    torch.testing.assert_close(our_losses, losses, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(our_gradients, gradients, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("config, head", HEADS)
def test_inference_is_detectron2s(monkeypatch, config, head):
    calls, batch = count_calls(monkeypatch), a_batch(2)
    outputs = [a_model(config, head, sparse).eval()(batch) for sparse in (False, True)]
    expected, actual = (o[0]["instances"].get_fields() for o in outputs)
    assert torch.equal(actual["scores"], expected["scores"])
    assert torch.equal(actual["pred_masks"], expected["pred_masks"])
    assert calls == []


def test_half_precision_is_left_to_detectron2(monkeypatch):
    calls = count_calls(monkeypatch)
    rois = torch.tensor([[0, 1.0, 2, 30, 20]])
    features = torch.randn(1, 4, 16, 16).bfloat16()
    module = ROIAlign((7, 7), 0.5, 0, True)
    with torch.autocast("cpu"):
        expected, actual = (m.train()(features, rois) for m in (module, SparseROIAlign(module)))
    assert torch.equal(actual, expected) and actual.dtype == torch.bfloat16
    assert calls == []


@pytest.mark.gpu
def test_cuda_is_left_to_detectron2(monkeypatch):
    calls = count_calls(monkeypatch)
    rois = torch.tensor([[0, 1.0, 2, 30, 20]], device="cuda")
    features = torch.randn(1, 4, 16, 16, device="cuda")
    module = ROIAlign((7, 7), 0.5, 0, True)
    expected, actual = (m.train()(features, rois) for m in (module, SparseROIAlign(module)))
    assert torch.equal(actual, expected)
    assert calls == []


def test_only_roi_align_is_replaced_and_keeps_its_arguments():
    types = ("ROIAlign", "ROIAlignV2", "ROIAlignRotated", "ROIPool")
    module = nn.ModuleDict({name: ROIPooler((7, 7), [0.25, 0.125], 2, name) for name in types})
    levels = {name: list(pooler.level_poolers) for name, pooler in module.items()}
    use_sparse_roi_align(module)
    for name in ("ROIAlign", "ROIAlignV2"):
        sparse = module[name].level_poolers
        assert [type(x) for x in sparse] == [SparseROIAlign] * 2
        assert [x.roi_align for x in sparse] == levels[name]
    for name in ("ROIAlignRotated", "ROIPool"):
        assert list(module[name].level_poolers) == levels[name]
