"""DATALOADER.PIN_MEMORY on a GPU that is not there: nobody waits for a batch on its way."""

import copy

import pytest
import torch
from detectron2.data.samplers import TrainingSampler
from detectron2.structures import BitMasks, Boxes, Instances, Keypoints, PolygonMasks
from detectron2.utils.events import EventStorage
from pretend_cuda import CUDA, PretendCUDA
from rehearsal import SIZE, build, tiny_config, two_images

from libra_umop.modeling.ignore_regions import InstancesWithRegions
from libra_umop.training.loader import ResumableTrainLoader
from libra_umop.training.pinned import PinnableBatch

# One of each place in which batches are asked for: dense ones, and two-stage ones with masks.
DETECTORS = (
    "COCO-Detection/retinanet_R_50_FPN_1x",
    "COCO-Detection/umop_fcos_R_50_FPN_1x",
    "COCO-InstanceSegmentation/libra_mask_rcnn_R_50_FPN_1x",
)
ASKING = ("_move_to_current_device", "meta_arch/dense_detector.py:forward", "rcnn.py:forward")


def loader(samples, *, pinned_for, num_workers=0):
    return ResumableTrainLoader(
        samples,
        copy.copy,
        lambda: TrainingSampler(len(samples), shuffle=False),
        batch_size=len(samples),
        num_workers=num_workers,
        seed=0,
        pinned_for=pinned_for,
    )


@pytest.mark.parametrize("name", DETECTORS)
def test_a_step_waits_for_its_batch_unless_it_was_pinned_and_has_the_same_losses(name):
    waits, losses = [], []
    for pinned_for in (None, torch.device("cuda")):
        model = build(tiny_config(name))
        torch.manual_seed(2)  # of the samplers
        with PretendCUDA() as cuda, EventStorage():
            batch = next(iter(loader(two_images(), pinned_for=pinned_for)))
            assert sum(cuda.waits.values()) == 0
            losses.append({key: x.elem for key, x in model(batch).items()})
        waits.append([name for name in cuda.waits if name.endswith(ASKING)])
    assert len(waits[0]) == 2 and waits[1] == []  # images and ground truth
    torch.testing.assert_close(losses[1], losses[0], rtol=0, atol=0)


def everything():
    """A sample with all that one may hold."""
    fields = {
        "gt_boxes": Boxes(torch.rand(2, 4)),
        "gt_classes": torch.tensor([1, 0]),
        "gt_masks": BitMasks(torch.ones(2, *SIZE, dtype=torch.bool)),
        "gt_keypoints": Keypoints(torch.rand(2, 5, 3)),
    }
    instances = InstancesWithRegions(SIZE, ignore_boxes=Boxes(torch.rand(3, 4)), **fields)
    image = torch.randint(0, 256, (3, *SIZE), dtype=torch.uint8)
    polygons = Instances(SIZE, gt_masks=PolygonMasks([[[0.0, 0.0, 9.0, 0.0, 9.0, 9.0]]]))
    names = {"file_name": "a.jpg", "height": 7, "width": 9}
    return {"image": image, "instances": instances, "proposals": polygons, **names}


def test_all_tensors_of_a_sample_go_along_and_the_sample_stays():
    sample = everything()
    with PretendCUDA():
        (sent,) = next(iter(loader([sample], pinned_for=torch.device("cuda"))))
    assert sent["image"].device == CUDA and torch.equal(sent["image"].elem, sample["image"])
    ours, theirs = sent["instances"], sample["instances"]
    assert type(ours) is InstancesWithRegions and ours.image_size == SIZE
    pairs = [(ours.gt_classes, theirs.gt_classes)]
    pairs += [
        (getattr(ours, name).tensor, getattr(theirs, name).tensor)
        for name in ("gt_boxes", "gt_masks", "gt_keypoints", "ignore_boxes")
    ]
    for a, b in pairs:
        assert (a.device, b.device) == (CUDA, torch.device("cpu")) and torch.equal(a.elem, b)
    assert sent["proposals"].gt_masks.device == torch.device("cpu")  # polygons are numpy's
    assert {key: sent[key] for key in ("file_name", "height", "width")} == {
        "file_name": "a.jpg",
        "height": 7,
        "width": 9,
    }


def test_workers_batches_are_pinned_by_the_loaders_thread(monkeypatch):
    """What torch's DataLoader asks of a batch, in the thread that it starts for it."""
    threads = []

    def pin(batch):
        import threading

        threads.append(threading.current_thread().name)
        return batch

    monkeypatch.setattr(PinnableBatch, "pin_memory", pin)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "set_device_index", lambda index: None)
    monkeypatch.setattr(torch.accelerator, "current_device_index", lambda: 0)
    stream = iter(loader([everything()], pinned_for=torch.device("cpu"), num_workers=1))
    (sample,) = next(stream)
    assert torch.equal(sample["instances"].gt_classes, torch.tensor([1, 0]))
    assert threads and "MainThread" not in threads
