"""Oracles: the parent heads with the same random numbers, and proposals whose IoUs are known."""

import copy

import pytest
import torch
from detectron2.modeling.roi_heads import StandardROIHeads
from detectron2.modeling.sampling import subsample_labels
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from libra_umop.modeling import BalancedL1OutputLayers
from libra_umop.modeling.rcnn.samplers import match_proposals
from testing.batches import a_batch, a_target
from testing.sync_counter import SyncCounter
from testing.tiny_rcnn import proposals_with_ious, tiny_config, tiny_model

RANDOM = [
    *("MODEL.ROI_HEADS.NEGATIVE_SAMPLER", "random"),
    *("MODEL.ROI_HEADS.POSITIVE_SAMPLER", "random"),
]
OFF = [*RANDOM, "MODEL.ROI_HEADS.SPARSE_ROI_ALIGN", False]
BALANCED_L1 = ["MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE", "balanced_l1"]
LIBRA = {
    "faster_rcnn_R_50_FPN_1x": "LibraROIHeads",
    "cascade_rcnn_R_50_FPN_1x": "LibraCascadeROIHeads",
    "faster_rcnn_R_50_C4_1x": "LibraRes5ROIHeads",
}


def all_heads(name):
    """Boxes, masks and, where Detectron2 has them, keypoints."""
    return ["MODEL.MASK_ON", True, "MODEL.KEYPOINT_ON", "C4" not in name]


def libra_options(name, *options):
    return ["MODEL.ROI_HEADS.NAME", LIBRA[name], *options]


def losses_and_gradients(model, batch):
    torch.manual_seed(1)
    with EventStorage() as storage:
        losses = model(batch)
        sum(losses.values()).backward()
    scalars = storage.latest()
    scalars.pop("kpts_num_skipped_batches", None)  # which Detectron2 counts over all models
    return losses, {n: p.grad for n, p in model.named_parameters()}, scalars


def a_head(*options):
    cfg = tiny_config(options=libra_options("faster_rcnn_R_50_FPN_1x", *options))
    return tiny_model(cfg).roi_heads


def sample(head, proposals, targets):
    with EventStorage() as storage:
        return head.label_and_sample_proposals(proposals, targets), storage.latest()


def an_image(num_proposals=200):
    """Proposals of every IoU with the one box, and the box."""
    target = Instances((100, 100), gt_boxes=Boxes(torch.tensor([[10.0, 10.0, 90.0, 90.0]])))
    target.gt_classes = torch.tensor([0])
    ious = torch.linspace(0, 1, num_proposals)
    return proposals_with_ious(ious, (10, 10, 90, 90)), target


def listed(image):
    return [image[0]], [image[1]]


@pytest.mark.parametrize("name", LIBRA)
@pytest.mark.parametrize("num_boxes", [(3, 0), (2,), (0,)])
def test_with_everything_off_it_is_its_parent(name, num_boxes):
    batch = a_batch(*num_boxes)
    parent = tiny_model(tiny_config(name, all_heads(name)))
    ours = tiny_model(tiny_config(name, libra_options(name, *OFF, *all_heads(name))))
    assert list(ours.state_dict()) == list(parent.state_dict())
    expected, actual = (losses_and_gradients(m, batch) for m in (parent, ours))
    torch.testing.assert_close(actual, expected, rtol=0, atol=0, equal_nan=True)

    parent.eval(), ours.eval()
    (expected,), (actual,) = parent(batch[:1]), ours(batch[:1])
    assert torch.equal(actual["instances"].scores, expected["instances"].scores)


@pytest.mark.parametrize("name", LIBRA)
@pytest.mark.parametrize("num_boxes", [(3, 0), (2,), (0,), (0, 0)])
def test_trains_with_boxes_masks_and_keypoints_and_on_empty_images(name, num_boxes):
    model = tiny_model(tiny_config(name, libra_options(name, *BALANCED_L1, *all_heads(name))))
    losses, _, _ = losses_and_gradients(model, a_batch(*num_boxes))
    others = {"loss_mask"} if "C4" in name else {"loss_mask", "loss_keypoint"}
    assert others <= set(losses)
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    if sum(num_boxes) == 0:
        assert all(loss == 0 for n, loss in losses.items() if "box_reg" in n)


def test_dc5_models_have_the_same_heads():
    """Detectron2's dilated C5: one level of stride 16, and the standard heads over it."""
    options = ["MODEL.BACKBONE.NAME", "build_resnet_backbone", "MODEL.RESNETS.RES5_DILATION", 2]
    options += ["MODEL.RESNETS.OUT_FEATURES", ["res5"], "MODEL.RPN.IN_FEATURES", ["res5"]]
    options += ["MODEL.ROI_HEADS.IN_FEATURES", ["res5"]]
    options += ["MODEL.ANCHOR_GENERATOR.SIZES", [[32, 64, 128, 256, 512]]]
    model = tiny_model(tiny_config(options=libra_options("faster_rcnn_R_50_FPN_1x", *options)))
    losses, gradients, _ = losses_and_gradients(model, a_batch(3, 0))
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert gradients["backbone.res5.2.conv3.weight"].abs().sum() > 0


def test_balanced_l1_is_in_every_cascade_stage_with_its_own_coding():
    cfg = tiny_config("libra_cascade_rcnn_R_50_FPN_1x")
    predictors = tiny_model(cfg).roi_heads.box_predictor
    assert [type(p) for p in predictors] == [BalancedL1OutputLayers] * 3
    weights = [tuple(p.box2box_transform.weights) for p in predictors]
    assert weights == [tuple(w) for w in cfg.MODEL.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS]


def test_negatives_are_drawn_evenly_over_the_bins_and_carry_their_targets():
    head = a_head("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 16)
    target = Instances((100, 100), gt_boxes=Boxes(torch.tensor([[10.0, 10.0, 90.0, 90.0]])))
    target.gt_classes = torch.tensor([2])
    target.gt_names = torch.tensor([7])
    # 300, 30 and 10 in the bins of [0, 0.5), and 40 positives; the ground truth itself is one more
    ious = torch.tensor([0.1] * 300 + [0.2] * 30 + [0.4] * 10 + [0.8] * 40)
    (sampled,), scalars = sample(head, [proposals_with_ious(ious, (10, 10, 90, 90))], [target])

    heights = (sampled.proposal_boxes.tensor[:, 3] - 10) / 80
    assert [(heights - x).abs().lt(1e-3).sum().item() for x in (0.1, 0.2, 0.4)] == [4, 4, 4]
    assert sampled.gt_classes.tolist() == [2] * 4 + [3] * 12  # the background is class 3
    assert (sampled.gt_names == 7).all()
    assert (sampled.gt_boxes.tensor == target.gt_boxes.tensor).all()
    assert scalars["roi_head/num_fg_samples"][0] == 4
    assert scalars["roi_head/num_bg_samples"][0] == 12


def test_positives_are_drawn_evenly_over_the_boxes():
    head = a_head("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 32)
    boxes = [(0.0, 0.0, 40.0, 90.0), (50.0, 0.0, 90.0, 90.0)]
    target = Instances((100, 100), gt_boxes=Boxes(torch.tensor(boxes)))
    target.gt_classes = torch.tensor([0, 1])
    proposals = Instances.cat(
        [proposals_with_ious([0.9] * n, box) for n, box in zip((200, 6), boxes, strict=True)]
    )
    (sampled,), _ = sample(head, [proposals], [target])
    assert sampled.gt_classes.bincount(minlength=4).tolist() == [4, 4, 0, 0]


@pytest.mark.parametrize("sampler, num_hard", [("random", 1), ("iou_balanced", 8)])
def test_one_key_switches_the_negatives(sampler, num_hard):
    head = a_head("MODEL.ROI_HEADS.NEGATIVE_SAMPLER", sampler)  # 32 samples, K = 3
    target = Instances((100, 100), gt_boxes=Boxes(torch.tensor([[10.0, 10.0, 90.0, 90.0]])))
    target.gt_classes = torch.tensor([0])
    ious = torch.tensor([0.05] * 990 + [0.45] * 8)
    (sampled,), _ = sample(head, [proposals_with_ious(ious, (10, 10, 90, 90))], [target])
    hard = (sampled.proposal_boxes.tensor[:, 3] > 40) & (sampled.gt_classes == 3)
    assert (hard.sum() == 8) if sampler == "iou_balanced" else (hard.sum() <= num_hard)


def test_bins_end_at_the_background_threshold_of_the_head():
    options = ("MODEL.ROI_HEADS.IOU_THRESHOLDS", [0.3, 0.6], "MODEL.ROI_HEADS.IOU_LABELS")
    for labels, end in (([0, -1, 1], 0.3), ([0, 0, 1], 0.6)):
        matched = match_proposals(*an_image(), a_head(*options, labels).proposal_matcher)
        assert matched.background == (0.0, end)
    with pytest.raises(ValueError, match="IOU_LABELS"):
        a_head(*options, [1, -1, 0])


@pytest.mark.parametrize(
    "labels, start, end",
    [
        ([0, -1, 1], 0.0, 0.1),
        ([-1, 0, 1], 0.1, 0.5),  # Fast R-CNN's
        ([0, 0, 1], 0.0, 0.5),
        ([0, 1, 1], 0.0, 0.1),
    ],
)
def test_bins_span_the_ious_that_negatives_have(labels, start, end):
    options = ["MODEL.ROI_HEADS.IOU_THRESHOLDS", [0.1, 0.5], "MODEL.ROI_HEADS.IOU_LABELS", labels]
    head = a_head(*options, "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 12)
    target = Instances((100, 100), gt_boxes=Boxes(torch.tensor([[10.0, 10.0, 90.0, 90.0]])))
    target.gt_classes = torch.tensor([0])
    # Of the middles of three equal bins over the negatives' range 300, 30 and 10.
    middles = [start + (end - start) * (k + 0.5) / 3 for k in range(3)]
    ious = [middles[0]] * 300 + [middles[1]] * 30 + [middles[2]] * 10
    (sampled,), _ = sample(head, [proposals_with_ious(ious, (10, 10, 90, 90))], [target])
    heights = (sampled.proposal_boxes.tensor[sampled.gt_classes == 3, 3] - 10) / 80
    drawn = sorted((heights - x).abs().lt(1e-3).sum().item() for x in middles)
    assert sum(drawn) == len(heights) and drawn[2] - drawn[0] <= 1


def test_the_floor_of_a_range_that_begins_above_it_has_no_candidates():
    options = ["MODEL.ROI_HEADS.IOU_THRESHOLDS", [0.1, 0.5], "MODEL.ROI_HEADS.IOU_LABELS"]
    floor = ["MODEL.ROI_HEADS.IOU_BALANCED.FLOOR_FRACTION", 0.5]
    below, above = (["MODEL.ROI_HEADS.IOU_BALANCED.FLOOR_IOU", f] for f in (0.05, 0.1))
    drawn = []
    for floor_iou in (below, above):
        torch.manual_seed(0)
        (sampled,), _ = sample(
            a_head(*options, [-1, 0, 1], *floor, *floor_iou), *listed(an_image())
        )
        drawn.append(sampled.proposal_boxes.tensor)
    assert torch.equal(*drawn)


def test_sampling_leaves_the_head_as_it_was():
    head = a_head()
    samplers = copy.deepcopy((head.negative_sampler, head.positive_sampler))
    for _ in range(2):
        sample(head, *listed(an_image()))
    assert (head.negative_sampler, head.positive_sampler) == samplers


def test_waits_for_the_device_no_more_often_than_its_parent():
    targets = [a_target(5, (100, 100)), a_target(0, (100, 100))]
    proposals = [proposals_with_ious(torch.rand(300), (10, 10, 90, 90)) for _ in targets]
    for target in targets:
        target.remove("gt_masks"), target.remove("gt_keypoints")
    counts = []
    head = a_head()
    for method in (StandardROIHeads, type(head)):
        with EventStorage(), SyncCounter() as counter:
            method.label_and_sample_proposals(head, proposals, targets)
        counts.append(counter.count)
    parent, ours = counts
    assert 0 < ours < parent


def test_sampling_waits_for_the_device_as_often_as_subsample_labels():
    head = a_head()
    matched = match_proposals(*an_image(), head.proposal_matcher)
    with SyncCounter() as ours:
        head._sample(matched)
    with SyncCounter() as detectron2s:
        subsample_labels(matched.labels, 32, 0.25, 0)
    assert ours.count == detectron2s.count == 2


@pytest.mark.parametrize(
    "options, word",
    [
        (["MODEL.ROI_HEADS.NEGATIVE_SAMPLER", "iou"], "NEGATIVE_SAMPLER is 'iou'"),
        (["MODEL.ROI_HEADS.POSITIVE_SAMPLER", "iou"], "POSITIVE_SAMPLER is 'iou'"),
        (["MODEL.ROI_HEADS.IOU_BALANCED.NUM_BINS", 0], "num_bins"),
        (
            ["MODEL.ROI_HEADS.IOU_BALANCED.FLOOR_IOU", 0.7],
            r"FLOOR_IOU is 0.7, should be in \[0, 0.5\)",
        ),
        ([*BALANCED_L1, "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA", 0.0], "ROI_BOX_HEAD.SMOOTH_L1_BETA"),
    ],
)
def test_refuses_at_building_what_cannot_work(options, word):
    with pytest.raises(ValueError, match=word):
        a_head(*options)
