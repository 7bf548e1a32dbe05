"""The drawn regions of the step benchmarks beside those that a trained RPN gives its ROI heads.

    python benchmarks/bm_regions.py --weights output/demo/model_final.pth --dataset output/shapes

Of both: how large they are, as the square root of their area over that of the image, and how much
they overlap the objects. The drawn ones are about the same objects in images of the same size.
"""

import argparse

import torch
from detectron2.structures import pairwise_iou
from detectron2.utils.events import EventStorage

from libra_umop.benchmark.inputs import draw_proposals
from libra_umop.config.loading import Layers
from libra_umop.data.arguments import configure_dataset
from libra_umop.data.dataset_args import DataSource, RunOptions
from libra_umop.inference.predictor import LibraPredictor
from libra_umop.training.trainer import LibraTrainer

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
IOUS = (0.05, 0.3, 0.5, 0.7)


@torch.no_grad()
def regions_of_training(model, batch):
    """What the ROI heads are given in a training step, an ``Instances`` for each image."""
    model.train()
    images = model.preprocess_image(batch)
    gt_instances = [x["instances"].to(model.device) for x in batch]
    with EventStorage():
        proposals, _ = model.proposal_generator(images, model.backbone(images.tensor), gt_instances)
    return proposals, gt_instances


def describe(title, regions, gt_instances) -> None:
    """Print a row: number of an image, quantiles of relative sizes, shares above each IoU."""
    sizes, ious = [], []
    for regions_i, gt_i in zip(regions, gt_instances, strict=True):
        height, width = gt_i.image_size
        boxes = regions_i.proposal_boxes.to("cpu")
        sizes.append((boxes.area() / (height * width)).sqrt())
        if len(gt_i):
            ious.append(pairwise_iou(gt_i.gt_boxes.to("cpu"), boxes).amax(dim=0))
    quantiles = torch.cat(sizes).quantile(torch.tensor(QUANTILES)).tolist()
    shares = [(torch.cat(ious) >= iou).float().mean().item() for iou in IOUS]
    cells = [f"{len(torch.cat(sizes)) / len(sizes):.0f}"]
    cells += [f"{x:.2f}" for x in quantiles] + [f"{100 * x:.0f} %" for x in shares]
    print(f"| {title} | {' | '.join(cells)} |")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--weights", required=True, help="of a two-stage detector")
    parser.add_argument("--dataset", required=True, help="as in train_net.py")
    parser.add_argument("--batches", type=int, default=10)
    args = parser.parse_args()

    predictor = LibraPredictor.from_weights(args.weights)
    cfg = predictor.cfg.clone()
    configure_dataset(Layers(cfg, cfg.clone()), DataSource(dataset=args.dataset), RunOptions())
    found, drawn, objects = [], [], []
    batches = iter(LibraTrainer.build_train_loader(cfg))
    for _ in range(args.batches):
        proposals, gt_instances = regions_of_training(predictor.model, next(batches))
        found += proposals
        objects += gt_instances
        drawn += [draw_proposals(x.to("cpu"), 2000, seed=len(drawn)) for x in gt_instances]
    header = ["", "regions", *(f"size {q}" for q in QUANTILES), *(f"IoU >= {x}" for x in IOUS)]
    print(f"| {' | '.join(header)} |\n|{'---|' * len(header)}")
    describe("trained RPN", found, objects)
    describe("drawn", drawn, objects)


if __name__ == "__main__":
    main()
