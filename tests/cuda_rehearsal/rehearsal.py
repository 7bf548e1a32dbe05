"""What the rehearsals share: small models of the shipped configs on the device, and batches."""

from pathlib import Path

import torch
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances
from pretend_cuda import to_cuda

from libra_umop.config.loading import load_config
from testing.detectors import DETECTORS as DETECTORS
from testing.shrink import shrink

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
SIZE = (64, 96)
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
# What waits here in the forward pass of a two-stage detector, where the number of regions is not
# known before, and how often at most. In one of a dense detector nothing does.
OUR_TRAINING = {
    "libra_umop:_sample": 4,  # foreground and background of two images, as in subsample_labels
    "libra_umop:box_reg_loss": 3,  # positives, once a stage, as in its parent
    "libra_umop:_balanced_l1_losses": 2,  # of the RPN: anchors used and positives
    "libra_umop:_sample_proposals": 1,  # OHEM, of an image with objects
    "libra_umop:region_losses": 1,  # positives
    "libra_umop:_box_losses": 7,  # fvcore's GIoU loss, by mask and with assertions
    "libra_umop:_hardest_apart": 2,  # NMS of two images
    "libra_umop:_hardest_proposals": 1,  # the number of positives, which is logged
}


def tiny_config(name, *options):
    """A shipped config, shrunk; every score is a detection, as untrained models have low ones."""
    cfg = shrink(load_config(str(CONFIGS / f"{name}.yaml")), image_size=SIZE[0])
    for node in (cfg.MODEL.RETINANET, cfg.MODEL.ATSS, cfg.MODEL.FCOS, cfg.MODEL.ROI_HEADS):
        node.SCORE_THRESH_TEST = 0.0
    cfg.TEST.DETECTIONS_PER_IMAGE = 5
    cfg.merge_from_list(list(options))
    return cfg


def build(cfg, *, on_cuda=True):
    """The model of a config in training mode, with the same weights each time."""
    torch.manual_seed(0)
    model = build_model(cfg).train()
    return to_cuda(model) if on_cuda else model


def two_images():
    """One with objects, which have masks, and one without."""
    generator = torch.Generator().manual_seed(1)
    batch = []
    for boxes in ([[4, 8, 60, 50], [20, 10, 90, 60], [30, 30, 50, 54]], []):
        instances = Instances(SIZE, gt_boxes=Boxes(torch.tensor(boxes).reshape(-1, 4).float()))
        instances.gt_classes = torch.arange(len(boxes))
        instances.gt_masks = BitMasks(torch.ones(len(boxes), *SIZE, dtype=torch.bool))
        image = torch.randint(0, 256, (3, *SIZE), generator=generator)
        names = {"height": SIZE[0], "width": SIZE[1], "file_name": f"{len(batch)}.jpg"}
        batch.append({"image": image, "instances": instances, **names})
    return batch
