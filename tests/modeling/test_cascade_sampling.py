"""Sampling at every stage of a cascade, against counts by hand and the parent that draws all."""

import pytest
import torch
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from testing.batches import a_batch
from testing.tiny_rcnn import proposals_with_ious, tiny_config, tiny_model

CASCADE = "libra_cascade_rcnn_R_50_FPN_1x"
EVERY_STAGE = ["MODEL.ROI_BOX_CASCADE_HEAD.SAMPLE_EVERY_STAGE", True]
ALL_HEADS = ["MODEL.MASK_ON", True, "MODEL.KEYPOINT_ON", True]
BOX = (10, 10, 90, 90)


def a_model(*options):
    return tiny_model(tiny_config(CASCADE, [*EVERY_STAGE, *options]))


def step(model, batch):
    torch.manual_seed(1)
    with EventStorage() as storage:
        losses = model(batch)
        sum(losses.values()).backward()
    return losses, {n: p.grad for n, p in model.named_parameters()}, storage.latest()


@pytest.mark.parametrize("stage, end", [(1, 0.6), (2, 0.7)])
def test_a_stage_draws_evenly_over_the_ious_below_its_own_threshold(stage, end):
    head = a_model("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 16).roi_heads
    target = Instances((100, 100), gt_boxes=Boxes(torch.tensor([BOX], dtype=torch.float32)))
    target.gt_classes = torch.tensor([2])
    middles = [end * (k + 0.5) / 3 for k in range(3)]
    # Of the middles of three bins 300, 30 and 10, and 40 positives; the box itself is one more.
    ious = [middles[0]] * 300 + [middles[1]] * 30 + [middles[2]] * 10 + [end + 0.05] * 40
    proposals = proposals_with_ious(ious, BOX)
    proposals.remove("objectness_logits")  # boxes of the stage before have none
    with EventStorage() as storage:
        (sampled,) = head._match_and_label_boxes([proposals], stage, [target])
    heights = (sampled.proposal_boxes.tensor[:, 3] - 10) / 80
    assert [(heights - x).abs().lt(1e-3).sum().item() for x in middles] == [4, 4, 4]
    assert sampled.gt_classes.tolist() == [2] * 4 + [3] * 12  # the background is class 3
    assert (sampled.gt_boxes.tensor == target.gt_boxes.tensor).all()
    logged = {name: value for name, (value, _) in storage.latest().items()}
    name = f"stage{stage}/roi_head/num_{{}}_samples"
    assert logged == {name.format("fg"): 4, name.format("bg"): 12}


@pytest.mark.parametrize("num_boxes", [(3, 0), (2,), (0,)])
def test_where_there_is_room_for_all_boxes_it_learns_as_its_parent(num_boxes):
    """All boxes are drawn then, in another order."""
    room = ["MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 1000, "MODEL.ROI_HEADS.POSITIVE_FRACTION", 1.0]
    options = [*room, "MODEL.ROI_HEADS.PROPOSAL_APPEND_GT", False]
    batch = a_batch(*num_boxes)
    losses, gradients, _ = step(a_model(*options), batch)
    off = tiny_model(tiny_config(CASCADE, options))
    expected, expected_gradients, _ = step(off, batch)
    torch.testing.assert_close(losses, expected, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(gradients, expected_gradients, rtol=1e-3, atol=1e-6)


def test_every_stage_has_its_quota_of_positives_at_most():
    num_boxes, quota = 3, 8  # of 32
    _, _, logged = step(a_model(), a_batch(num_boxes))
    off = tiny_model(tiny_config(CASCADE))
    _, _, logged_off = step(off, a_batch(num_boxes))
    for prefix in ("", "stage1/", "stage2/"):
        num_fg, num_bg = (logged[f"{prefix}roi_head/num_{x}_samples"][0] for x in ("fg", "bg"))
        assert 0 < num_fg <= quota and num_fg + num_bg <= 32
    assert logged.keys() == logged_off.keys()


@pytest.mark.parametrize("num_boxes", [(3, 0), (2,), (0,), (0, 0)])
def test_it_trains_with_masks_and_keypoints_and_on_empty_images(num_boxes):
    model = a_model(*ALL_HEADS)
    losses, gradients, _ = step(model, a_batch(*num_boxes))
    assert all(loss.isfinite() for loss in losses.values())
    assert all(g.isfinite().all() for g in gradients.values() if g is not None)
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


def test_off_draws_at_the_first_stage_alone_and_on_changes_no_detection():
    batch = a_batch(2)
    on, off = a_model().eval(), tiny_model(tiny_config(CASCADE)).eval()
    with torch.no_grad():
        (ours,), (parents,) = on(batch), off(batch)
    assert ours["instances"].scores.equal(parents["instances"].scores)


def test_a_floor_above_the_end_of_any_stage_is_refused():
    floor = ["MODEL.ROI_HEADS.IOU_BALANCED.FLOOR_IOU", 0.45]
    ious = ["MODEL.ROI_BOX_CASCADE_HEAD.IOUS", (0.5, 0.6, 0.4)]
    a_model(*floor)
    with pytest.raises(ValueError, match=r"FLOOR_IOU is 0.45, should be in \[0, 0.4\)"):
        a_model(*floor, *ious)
