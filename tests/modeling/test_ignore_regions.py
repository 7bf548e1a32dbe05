"""What lies in a crowd region is neither positive nor negative, in no detector.

The oracle is the covered part of each candidate's own area, counted here in NumPy.
"""

import copy
import pickle

import numpy as np
import pytest
import torch
from detectron2.modeling.proposal_generator import RPN
from detectron2.modeling.roi_heads import FastRCNNOutputLayers
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from libra_umop.modeling.ignore_regions import InstancesWithRegions, is_ignored
from libra_umop.modeling.rcnn.samplers import NEGATIVE_SAMPLERS, POSITIVE_SAMPLERS
from testing.batches import make_input
from testing.dense_models import DETECTORS, spread_scores
from testing.dense_models import tiny_model as tiny_dense_model
from testing.tiny_rcnn import tiny_config, tiny_model

REGION = [0.0, 0.0, 60.0, 96.0]  # the left half of an image of 96 x 128 pixels
BOXES = {"objects": [[70, 10, 120, 60], [8, 8, 40, 60]], "no objects": []}  # one of them inside


def covered(boxes):
    """Part of each box's area that REGION covers."""
    x0, y0, x1, y1 = np.asarray(boxes, dtype=np.float64).reshape(-1, 4).T
    width = np.minimum(x1, REGION[2]) - np.maximum(x0, REGION[0])
    height = np.minimum(y1, REGION[3]) - np.maximum(y0, REGION[1])
    return width.clip(0) * height.clip(0) / ((x1 - x0) * (y1 - y0))


def an_input(boxes, *regions):
    """An image with objects and, if there are any, regions."""
    one = make_input(boxes, [1] * len(boxes))
    if regions:
        fields = one["instances"].get_fields()
        regions = Boxes(torch.tensor(regions))
        one["instances"] = InstancesWithRegions((96, 128), ignore_boxes=regions, **fields)
    return one


def test_half_of_a_candidates_own_area_in_one_region_is_the_limit():
    regions = Boxes(torch.tensor([[0.0, 0.0, 10.0, 10.0], [10.0, 0.0, 12.0, 10.0]]))
    targets = InstancesWithRegions((50, 50), ignore_boxes=regions)
    candidates = [
        [5, 0, 15, 10],  # half in the first, and a fifth in the second
        [6, 0, 16, 10],  # less than half in each, more than half in both
        [2, 2, 4, 4],  # wholly inside
        [0, 0, 50, 50],  # around the region
        [20, 20, 30, 30],
        [3, 3, 3, 3],  # no area
    ]
    ignored = is_ignored(Boxes(torch.tensor(candidates)), targets)
    assert ignored.tolist() == [True, False, True, False, False, False]


def test_without_regions_nothing_is_asked():
    plain = Instances((50, 50), gt_boxes=Boxes(torch.zeros(0, 4)))
    none = InstancesWithRegions((50, 50), ignore_boxes=Boxes(torch.zeros(0, 4)))
    assert is_ignored(Boxes(torch.zeros(3, 4)), plain) is None
    assert is_ignored(Boxes(torch.zeros(3, 4)), none) is None


@pytest.mark.parametrize("boxes", BOXES.values(), ids=BOXES)
def test_regions_go_where_the_objects_go(boxes):
    targets = an_input(boxes, REGION)["instances"]
    nothing = torch.zeros(len(boxes), dtype=torch.bool)
    for other in (
        targets.to("cpu"),
        targets[nothing],
        copy.deepcopy(targets),
        pickle.loads(pickle.dumps(targets)),  # from a worker of the loader
    ):
        assert other.ignore_boxes.tensor.tolist() == [REGION]
        assert other.image_size == (96, 128) and other.has("gt_classes")
    assert targets.to("meta").ignore_boxes.device.type == "meta"


def gradients(model, batch):
    """The largest gradient of what the head predicts for each anchor, (N, R)."""
    outputs = []

    def cut_off(head, inputs, output):
        """The head's outputs as leaves: their gradients are the losses' own."""
        levels = [[x.detach().requires_grad_() for x in levels] for levels in output]
        outputs.extend(levels)
        return tuple(levels)

    handle = model.head.register_forward_hook(cut_off)
    with EventStorage():
        sum(model(batch).values()).backward()
    handle.remove()
    num_anchors = model.anchor_generator.num_anchors[0]
    asked = []
    for level in zip(*outputs, strict=True):
        of_each = [x.grad.unflatten(1, (num_anchors, -1)).abs().amax(dim=2) for x in level]
        largest = torch.stack(of_each).amax(dim=0)  # (N, A, H, W)
        asked.append(largest.permute(0, 2, 3, 1).flatten(1))
    return torch.cat(asked, dim=1)


def anchors_of(model):
    features = model.backbone(torch.zeros(1, 3, 96, 128))
    anchors = model.anchor_generator([features[f] for f in model.head_in_features])
    return Boxes.cat(anchors).tensor.numpy()


@pytest.mark.parametrize("boxes", BOXES.values(), ids=BOXES)
@pytest.mark.parametrize("name", DETECTORS)
def test_a_dense_detector_asks_nothing_of_anchors_in_a_region(name, boxes):
    model = tiny_dense_model(name)
    spread_scores(model)
    inside = covered(anchors_of(model)) >= 0.5
    assert 0.2 < inside.mean() < 0.8
    asked = gradients(model, [an_input(boxes, REGION), an_input(boxes)])
    assert asked[0, inside].eq(0).all()
    # RetinaNet ignores by itself what half overlaps an object.
    assert asked[0, ~inside].gt(0).float().mean() > 0.9
    assert asked[1, inside].gt(0).float().mean() > 0.9


@pytest.mark.parametrize("name", DETECTORS)
def test_a_dense_detector_trains_where_a_region_is_the_whole_image(name):
    model = tiny_dense_model(name)
    with EventStorage():
        losses = model([an_input([], [-999.0, -999.0, 999.0, 999.0])])
    sum(losses.values()).backward()
    assert all(loss == 0 for loss in losses.values())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


STANDARD, CASCADE = "faster_rcnn_R_50_FPN_1x", "cascade_rcnn_R_50_FPN_1x"


def samplers():
    for negatives in NEGATIVE_SAMPLERS:
        for positives in POSITIVE_SAMPLERS:
            yield ["MODEL.ROI_HEADS.NEGATIVE_SAMPLER", negatives] + [
                "MODEL.ROI_HEADS.POSITIVE_SAMPLER",
                positives,
            ]


HEADS = [
    *((STANDARD, "LibraROIHeads", options) for options in samplers()),
    (STANDARD, "OHEMROIHeads", ["MODEL.ROI_HEADS.OHEM.NUM_HARD", 32]),
    (CASCADE, "LibraCascadeROIHeads", []),
    (CASCADE, "LibraCascadeROIHeads", ["MODEL.ROI_BOX_CASCADE_HEAD.SAMPLE_EVERY_STAGE", True]),
    ("faster_rcnn_R_50_C4_1x", "LibraRes5ROIHeads", []),
]


def an_rcnn(config, heads, options):
    names = ["MODEL.ROI_HEADS.NAME", heads, "MODEL.PROPOSAL_GENERATOR.NAME", "LibraRPN"]
    return tiny_model(tiny_config(config, [*names, *options]))


@pytest.fixture
def learnt_from(monkeypatch):
    """Proposals of each image and stage that there is a loss of, and the RPN's labels."""
    proposals, labels = [], []
    box_losses, rpn_losses = FastRCNNOutputLayers.losses, RPN.losses

    def record(self, predictions, these):
        proposals.append(these)
        return box_losses(self, predictions, these)

    def record_rpn(self, anchors, logits, gt_labels, deltas, gt_boxes):
        labels.append((Boxes.cat(anchors).tensor.numpy(), gt_labels))
        return rpn_losses(self, anchors, logits, gt_labels, deltas, gt_boxes)

    monkeypatch.setattr(FastRCNNOutputLayers, "losses", record)
    monkeypatch.setattr(RPN, "losses", record_rpn)
    return proposals, labels


def step(model, batch):
    torch.manual_seed(1)
    with EventStorage():
        losses = model(batch)
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    return losses


def inside_of(proposals, boxes):
    """How many of an image's proposals lie in REGION, its own objects aside."""
    own = {tuple(map(float, box)) for box in boxes}
    xyxy = [box for box in proposals.proposal_boxes.tensor.tolist() if tuple(box) not in own]
    return int((covered(xyxy) >= 0.5).sum())


@pytest.mark.parametrize("boxes", BOXES.values(), ids=BOXES)
@pytest.mark.parametrize("config, heads, options", HEADS)
def test_roi_heads_learn_nothing_from_proposals_in_a_region(
    config, heads, options, boxes, learnt_from
):
    model = an_rcnn(config, heads, options)
    step(model, [an_input(boxes, REGION), an_input(boxes)])
    stages, _ = learnt_from
    assert len(stages) == (3 if config == CASCADE else 1)
    for proposals in stages:
        assert inside_of(proposals[0], boxes) == 0 and len(proposals[0]) > 0
        assert inside_of(proposals[1], boxes) > 0


@pytest.mark.parametrize("config, heads, options", HEADS)
def test_roi_heads_train_where_a_region_is_the_whole_image(config, heads, options):
    """Every parameter has a gradient, which other ranks wait for."""
    model = an_rcnn(config, heads, options)
    step(model, [an_input([], [0.0, 0.0, 128.0, 96.0])])
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


@pytest.mark.parametrize("boxes", BOXES.values(), ids=BOXES)
def test_an_rpn_draws_all_its_anchors_from_outside_of_a_region(boxes, learnt_from):
    model = an_rcnn(STANDARD, "LibraROIHeads", ["MODEL.RPN.BATCH_SIZE_PER_IMAGE", 200])
    step(model, [an_input(boxes, REGION), an_input(boxes)])
    ((anchors, labels),) = learnt_from[1]
    inside = covered(anchors) >= 0.5
    assert all(labels_i.ge(0).sum() == 200 for labels_i in labels)
    assert (labels[0].numpy()[inside] == -1).all()
    assert (labels[1].numpy()[inside] >= 0).any()


def test_an_object_in_a_region_is_not_what_any_other_anchor_is_positive_for(learnt_from):
    """The nearest anchor of every object is positive, but not if it lies in a region."""
    model = an_rcnn(STANDARD, "LibraROIHeads", [])
    step(model, [an_input([[8, 8, 40, 60]], REGION)])
    ((_, (labels,)),) = learnt_from[1]
    assert labels.eq(0).sum() > 0 and labels.eq(1).sum() == 0


@pytest.mark.parametrize("boundary", [-1, 0])
def test_an_rpn_labels_as_its_parent_what_lies_in_no_region(boundary, learnt_from):
    options = ["MODEL.RPN.BOUNDARY_THRESH", boundary]
    model = an_rcnn(STANDARD, "LibraROIHeads", options)
    far = [-50.0, -50.0, -40.0, -40.0]
    losses = [step(model, [an_input(BOXES["objects"], *r)]) for r in ((), (far,))]
    assert losses[0] == losses[1]
    (_, (plain,)), (_, (partly,)) = learnt_from[1]
    assert plain.equal(partly)


@pytest.mark.parametrize("config, heads, options", HEADS)
def test_inference_knows_no_regions(config, heads, options):
    model = an_rcnn(config, heads, options).eval()
    with torch.no_grad():
        results = [model([an_input([], *r)])[0]["instances"] for r in ((), (REGION,))]
    assert results[0].pred_boxes.tensor.equal(results[1].pred_boxes.tensor)
