"""Oracles: the parent heads given every region, and losses that can be seen."""

import pytest
import torch
from detectron2.utils.events import EventStorage
from tiny_rcnn import a_batch, tiny_config, tiny_model

from libra_umop.modeling import region_losses

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

    for all_i, hard_i, image in zip(seen["all"], seen["hard"], range(2)):
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
