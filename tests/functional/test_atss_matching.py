"""ATSS matching against a peer's assignments and a plain loop; centerness by hand."""

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, pairwise_iou

from libra_umop.functional.atss_matching import atss_match, centerness_target


def make_anchors(sizes=((16, 24), (8, 12), (4, 6), (2, 3), (1, 2)), stride=8):
    """Square anchors of 8 x stride around the locations of a pyramid."""
    anchors = []
    for height, width in sizes:
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        centers = torch.stack((x, y), dim=-1).reshape(-1, 2) * float(stride)
        anchors.append(torch.cat((centers - 4 * stride, centers + 4 * stride), dim=1))
        stride *= 2
    return torch.cat(anchors), [len(a) for a in anchors]


def make_boxes(num, size=(192.0, 128.0)):
    center, wh = torch.rand(num, 2) * torch.tensor(size), torch.rand(num, 2) * 60 + 6
    return torch.cat((center - wh / 2, center + wh / 2), dim=1)


def match_by_loop(anchors, num_anchors_per_level, gt_boxes, topk=9):
    """The paper's algorithm 1, box by box."""
    matched, best = np.full(len(anchors), -1), np.full(len(anchors), -1.0)
    ious = pairwise_iou(Boxes(gt_boxes), Boxes(anchors)).double().numpy()
    centers = ((anchors[:, :2] + anchors[:, 2:]) / 2).double().numpy()
    for m, box in enumerate(gt_boxes.double().numpy()):
        candidates, start = [], 0
        for num in num_anchors_per_level:
            offsets = centers[start : start + num] - (box[:2] + box[2:]) / 2
            order = np.linalg.norm(offsets, axis=1).argsort(kind="stable")
            candidates += list(start + order[:topk])
            start += num
        values = ious[m][candidates]
        threshold = values.mean() + (values.std(ddof=1) if len(values) > 1 else 0)
        for r, iou in zip(candidates, values, strict=True):
            inside = (centers[r] - box[:2] > 0.01).all() and (box[2:] - centers[r] > 0.01).all()
            if iou >= threshold and inside and iou > best[r]:
                matched[r], best[r] = m, iou
    return torch.from_numpy(matched)


@pytest.mark.parametrize("image", range(3))
def test_assignments_are_the_peers(peer, image):
    values = np.load(peer / "atss_assignment.npz")
    matched = atss_match(
        torch.from_numpy(values["anchors"]),
        values["num_anchors_per_level"].tolist(),
        torch.from_numpy(values[f"gt_boxes_{image}"]),
        topk=9,
    )
    assert torch.equal(matched, torch.from_numpy(values[f"matched_gt_{image}"]))


@pytest.mark.parametrize("num_boxes", [1, 3, 40])
@pytest.mark.parametrize("topk", [2, 9])
def test_matching_equals_the_loop(num_boxes, topk):
    anchors, per_level = make_anchors()
    gt_boxes = make_boxes(num_boxes)
    ours = atss_match(anchors, per_level, gt_boxes, topk=topk)
    assert torch.equal(ours, match_by_loop(anchors, per_level, gt_boxes, topk))
    assert (ours >= 0).any()


def test_no_boxes_is_all_background():
    anchors, per_level = make_anchors()
    assert (atss_match(anchors, per_level, torch.zeros(0, 4)) == -1).all()
    assert atss_match(torch.zeros(0, 4), [0, 0], make_boxes(2)).shape == (0,)


def test_a_single_candidate_is_a_positive_if_its_centre_is_inside():
    anchor = torch.tensor([[0.0, 0.0, 16.0, 16.0]])
    boxes = torch.tensor([[4.0, 4.0, 12.0, 12.0], [9.0, 9.0, 20.0, 20.0]])
    assert atss_match(anchor, [1], boxes[:1]).tolist() == [0]
    assert atss_match(anchor, [1], boxes[1:]).tolist() == [-1]


def test_an_anchor_of_two_boxes_goes_to_the_larger_iou_and_of_equals_to_the_first():
    anchor = torch.tensor([[0.0, 0.0, 16.0, 16.0]])
    close, far = [0.0, 0.0, 16.0, 15.0], [2.0, 2.0, 12.0, 12.0]
    assert atss_match(anchor, [1], torch.tensor([far, close])).tolist() == [1]
    assert atss_match(anchor, [1], torch.tensor([close, far])).tolist() == [0]
    assert atss_match(anchor, [1], torch.tensor([close, close])).tolist() == [0]


def test_levels_may_be_smaller_than_topk():
    anchors, per_level = make_anchors(sizes=((4, 4), (2, 2), (1, 1)))
    box = torch.tensor([[2.0, 2.0, 30.0, 30.0]])
    matched = atss_match(anchors, per_level, box, topk=100)
    assert torch.equal(matched, match_by_loop(anchors, per_level, box, 100))


def test_arguments_out_of_range_are_refused():
    anchors, per_level = make_anchors()
    with pytest.raises(ValueError, match="topk"):
        atss_match(anchors, per_level, make_boxes(1), topk=0)
    with pytest.raises(ValueError, match="add up"):
        atss_match(anchors, per_level[:-1], make_boxes(1))


def test_matching_compiles_without_graph_breaks():
    anchors, per_level = make_anchors()
    gt_boxes = make_boxes(5)
    compiled = torch.compile(
        lambda a, b: atss_match(a, per_level, b), fullgraph=True, backend="aot_eager"
    )
    assert torch.equal(compiled(anchors, gt_boxes), atss_match(anchors, per_level, gt_boxes))


def test_centerness_by_hand():
    anchors = torch.tensor([[-8.0, -8.0, 8.0, 8.0]]) + torch.tensor(
        [[5.0, 5.0, 5.0, 5.0], [2.0, 5.0, 2.0, 5.0], [-1.0, 5.0, -1.0, 5.0]]
    )
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0]]).expand(3, 4)
    # The centre; 2 from the left and 8 from the right; outside.
    torch.testing.assert_close(centerness_target(anchors, boxes), torch.tensor([1.0, 0.5, 0.0]))
    assert centerness_target(anchors, torch.zeros(3, 4)).isfinite().all()
