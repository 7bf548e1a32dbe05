"""Oracles: the parent heads given every region, and losses that can be seen."""

import pytest
import torch
from detectron2.structures import pairwise_iou
from detectron2.utils.events import EventStorage

from libra_umop.modeling import region_losses
from testing.batches import a_batch
from testing.tiny_rcnn import tiny_config, tiny_model

OHEM = ["MODEL.ROI_HEADS.NAME", "OHEMROIHeads", "MODEL.ROI_HEADS.OHEM.NUM_HARD"]
ALL_HEADS = ["MODEL.MASK_ON", True, "MODEL.KEYPOINT_ON", True]


def losses_of(model, batch):
    torch.manual_seed(1)
    with EventStorage() as storage:
        losses = model(batch)
    return losses, storage.latest()


@pytest.mark.parametrize("num_boxes", [(3, 2), (3, 0), (0,)])
def test_taking_every_region_is_the_parent_taking_every_region(num_boxes):
    batch = a_batch(*num_boxes)
    parent = tiny_model(tiny_config(options=["MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 10000]))
    ours = tiny_model(tiny_config(options=[*OHEM, 10000]))
    (expected, scalars), (actual, our_scalars) = (losses_of(m, batch) for m in (parent, ours))
    torch.testing.assert_close(actual, expected)
    for name in ("roi_head/num_fg_samples", "roi_head/num_bg_samples"):
        assert our_scalars[name] == our_scalars["all_regions/" + name] == scalars[name]


def test_trains_on_the_hardest_regions_of_each_image():
    model = tiny_model(tiny_config(options=[*OHEM, 7]))
    head, batch = model.roi_heads, a_batch(3, 0)
    seen = {}
    ranked, trained = head._hardest_proposals, head._forward_box
    head._hardest_proposals = lambda f, p: ranked(f, seen.setdefault("all", p))
    head._forward_box = lambda f, p: trained(f, seen.setdefault("hard", p))
    pool = head.box_pooler.forward
    head.box_pooler.forward = lambda f, b: pool(seen.setdefault("levels", f), b)
    losses_of(model, batch)

    for all_i, hard_i, image in zip(seen["all"], seen["hard"], range(2), strict=True):
        assert len(all_i) > len(hard_i) == 7
        levels = [x[image : image + 1] for x in seen["levels"]]
        with torch.no_grad():
            losses = [
                region_losses(
                    head.box_predictor,
                    head.box_predictor(head.box_head(pool(levels, [p.proposal_boxes]))),
                    [p],
                )
                for p in (all_i, hard_i)
            ]
        torch.testing.assert_close(losses[1], losses[0].sort(descending=True).values[:7])


def a_region(x, width=10.0):
    return [x, 0.0, x + width, 10.0]


@pytest.mark.parametrize(
    "nms_thresh, num_hard, expected",
    [
        (1.0, 3, [2, 0, 1]),  # by loss alone
        # IoU of 0 and 1: 9 / 11 > 0.7; of 2 and 3: 6 / 14 = 0.43; 4 is alone.
        (0.7, 3, [2, 0, 3]),
        (0.7, 9, [2, 0, 3, 4]),  # fewer are left than were asked for
        (0.4, 9, [2, 0, 4]),
        (0.7, 1, [2]),
    ],
)
def test_regions_that_overlap_a_harder_one_are_left_out(nms_thresh, num_hard, expected):
    options = [*OHEM, num_hard, "MODEL.ROI_HEADS.OHEM.NMS_THRESH", nms_thresh]
    head = tiny_model(tiny_config(options=options)).roi_heads
    boxes = torch.tensor([a_region(0), a_region(1), a_region(50), a_region(54), a_region(80)])
    losses = torch.tensor([0.8, 0.7, 0.9, 0.6, 0.1])
    assert head._hardest_apart(boxes, losses).tolist() == expected


@pytest.mark.parametrize("nms_thresh", [1.0, 0.7])
def test_a_loss_that_is_not_a_number_is_the_hardest(nms_thresh):
    options = [*OHEM, 2, "MODEL.ROI_HEADS.OHEM.NMS_THRESH", nms_thresh]
    head = tiny_model(tiny_config(options=options)).roi_heads
    boxes = torch.tensor([a_region(0), a_region(50), a_region(80)])
    losses = torch.tensor([0.8, 0.1, float("nan")])
    assert head._hardest_apart(boxes, losses).tolist() == [2, 0]


def test_trained_regions_of_an_image_overlap_by_no_more_than_the_threshold():
    """Of the same image, also where another one has a region at the same place."""
    options = [*OHEM, 64, "MODEL.ROI_HEADS.OHEM.NMS_THRESH", 0.3]
    model = tiny_model(tiny_config(options=options))
    seen, trained = [], model.roi_heads._forward_box
    model.roi_heads._forward_box = lambda f, p: seen.extend(p) or trained(f, p)
    image = a_batch(3)[0]
    losses, _ = losses_of(model, [image, image])
    assert torch.isfinite(sum(losses.values()))
    assert len(seen[0]) == len(seen[1]) > 1
    for regions in seen:
        overlap = pairwise_iou(regions.proposal_boxes, regions.proposal_boxes).fill_diagonal_(0)
        assert overlap.max() <= 0.3


def test_only_the_hardest_regions_pass_a_gradient():
    model = tiny_model(tiny_config(options=[*OHEM, 7]))
    passes = []
    model.roi_heads.box_head.register_forward_hook(
        lambda module, inputs, out: passes.append((len(out), out.requires_grad))
    )
    losses_of(model, a_batch(3, 2))
    (num_ranked, ranked_gradient), (num_trained, trained_gradient) = passes
    assert num_ranked > num_trained == 14
    assert not ranked_gradient and trained_gradient


@pytest.mark.parametrize("num_boxes", [(3, 0), (2,), (0,), (0, 0)])
@pytest.mark.parametrize("loss_type", ["smooth_l1", "balanced_l1"])
def test_trains_with_masks_and_keypoints_and_on_empty_images(num_boxes, loss_type):
    options = [*OHEM, 16, "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE", loss_type, *ALL_HEADS]
    model = tiny_model(tiny_config(options=options))
    losses, _ = losses_of(model, a_batch(*num_boxes))
    total = sum(losses.values())
    assert torch.isfinite(total)
    total.backward()
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


def test_ignored_proposals_are_not_ranked():
    thresholds = ["MODEL.ROI_HEADS.IOU_THRESHOLDS", [0.3, 0.6]]
    labels = ["MODEL.ROI_HEADS.IOU_LABELS", [0, -1, 1]]
    head = tiny_model(tiny_config(options=[*OHEM, 7, *thresholds, *labels])).roi_heads
    matched_idxs, matched_labels = torch.tensor([1, 0, 1, 0]), torch.tensor([1, -1, 0, 1])
    idxs, classes = head._sample_proposals(matched_idxs, matched_labels, torch.tensor([2, 1]))
    assert idxs.tolist() == [0, 2, 3]
    assert classes.tolist() == [1, 3, 2]


def test_inference_is_the_parents():
    batch = a_batch(2)
    outputs = [tiny_model(tiny_config(options=o)).eval()(batch) for o in ((), [*OHEM, 7])]
    assert torch.equal(*(o[0]["instances"].scores for o in outputs))


def test_refuses_what_it_cannot_rank():
    with pytest.raises(ValueError, match="NUM_HARD is 0"):
        tiny_model(tiny_config(options=[*OHEM, 0]))
    with pytest.raises(ValueError, match="NMS_THRESH is 1.5"):
        tiny_model(tiny_config(options=[*OHEM, 7, "MODEL.ROI_HEADS.OHEM.NMS_THRESH", 1.5]))
