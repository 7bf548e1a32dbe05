"""Inputs of detectors: images with given boxes, or with drawn ones."""

import torch
from detectron2.structures import BitMasks, Boxes, Instances, Keypoints


def make_input(boxes, classes, size=(96, 128), seed=0):
    """One input of a detector: noise, with the boxes (XYXY pixels) as ground truth."""
    instances = Instances(size)
    instances.gt_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    instances.gt_classes = torch.tensor(classes, dtype=torch.int64)
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(3, *size, generator=generator) * 255
    return {"image": image, "instances": instances, "height": size[0], "width": size[1]}


def make_batch():
    """Two images of different size, with small and with large objects."""
    return [
        make_input([[10, 10, 60, 50], [30, 40, 110, 92], [70, 5, 90, 30]], [1, 3, 0]),
        make_input([[0, 0, 60, 62]], [2], size=(64, 64), seed=1),
    ]


def a_batch(*num_boxes, size=(64, 96)):
    """One image for each number of boxes, with masks and keypoints for whom it may concern."""
    return [
        {"image": torch.randint(0, 256, (3, *size)), "instances": a_target(n, size)}
        for n in num_boxes
    ]


def a_target(num_boxes, size=(64, 96)):
    wh = 16 + 24 * torch.rand(num_boxes, 2)
    xy = torch.rand(num_boxes, 2) * (torch.tensor([size[1], size[0]]) - wh)
    target = Instances(size, gt_boxes=Boxes(torch.cat([xy, xy + wh], dim=1)))
    target.gt_classes = torch.randint(0, 3, (num_boxes,))
    target.gt_masks = BitMasks(torch.rand(num_boxes, *size) > 0.5)
    points = xy[:, None] + torch.rand(num_boxes, 17, 2) * wh[:, None]
    target.gt_keypoints = Keypoints(torch.cat([points, torch.full((num_boxes, 17, 1), 2.0)], dim=2))
    return target
