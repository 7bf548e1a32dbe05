"""Whole training steps of Libra R-CNN against plain Faster R-CNN, on the same images.

    python benchmarks/bm_libra_step.py --size 320x544 --images 2
    python benchmarks/bm_libra_step.py --size 800x1333 --images 1 --levers

On a CPU, page faults of blocks that glibc gives back and takes again can cost more than what is
compared; MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=68719476736 in the environment avoids them.

All models share their weights as far as they go. Their steps (forward, backward, optimizer)
alternate, so that a machine that gets slower or busier does so for all; the figure is the ratio of
the medians. Where other programs run too, the shortest steps and the CPU time say more.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import build_model
from detectron2.solver import build_optimizer
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from fvcore.common.benchmark import timeit

from libra_umop.config import add_libra_umop_config

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
PLAIN = ["COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml"]
LIBRA = ["COCO-Detection/libra_faster_rcnn_R_50_FPN_1x.yaml"]
RANDOM = [
    *("MODEL.ROI_HEADS.NEGATIVE_SAMPLER", "random"),
    *("MODEL.ROI_HEADS.POSITIVE_SAMPLER", "random"),
]
TORCHVISION = ["MODEL.ROI_HEADS.SPARSE_ROI_ALIGN", False]
MODELS = {"plain": PLAIN, "Libra": LIBRA}
LEVERS = {
    "Libra, torchvision's ROIAlign": [*LIBRA, *TORCHVISION],
    "  IoU-balanced sampling alone": ["ablations/iou_sampling_R_50_FPN_1x.yaml", *TORCHVISION],
    "  BFP alone": ["ablations/bfp_R_50_FPN_1x.yaml", *TORCHVISION],
    "  balanced L1 alone": ["ablations/balanced_l1_R_50_FPN_1x.yaml", *TORCHVISION],
    "  sparse ROIAlign alone": [*PLAIN, "MODEL.ROI_HEADS.NAME", "LibraROIHeads", *RANDOM],
}


def build_step(config_file: str, *options: str, batch: list, device: str):
    """The model of a config, seeded, and a function that does one training step."""
    cfg = get_cfg()
    add_libra_umop_config(cfg)
    node = CfgNode.load_yaml_with_base(str(CONFIGS / config_file), allow_unsafe=False)
    cfg.merge_from_other_cfg(CfgNode(node))
    cfg.merge_from_list(list(options))
    cfg.MODEL.DEVICE = device
    cfg.SOLVER.BASE_LR = 1e-6  # a step costs the same, and the models stay what they are
    torch.manual_seed(0)
    model = build_model(cfg).train()
    for name, module in model.named_modules():
        if isinstance(module, FrozenBatchNorm2d) and name.endswith("conv3.norm"):
            module.weight.fill_(0.2)  # without trained statistics residuals would add up
        if name.endswith("refine.out"):
            # A trained one: at its start, zero, it sends back gradients so small that the CPU
            # computes with subnormal numbers, many times slower.
            torch.nn.init.normal_(module.weight, std=0.01)
    optimizer = build_optimizer(cfg, model)

    def step() -> None:
        optimizer.zero_grad()
        sum(model(batch).values()).backward()
        optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()

    return model, step


def make_batch(size: tuple, num_images: int, num_boxes: int = 7) -> list:
    """Smoothed noise, and as many boxes as a COCO image has, 32 px to half of the image."""
    height, width = size
    generator = torch.Generator().manual_seed(0)
    batch = []
    for _ in range(num_images):
        noise = torch.rand(1, 3, height // 16, width // 16, generator=generator)
        image = torch.nn.functional.interpolate(noise, size=size, mode="bicubic")[0] * 255
        limit = torch.tensor([width, height])
        wh = 32 + torch.rand(num_boxes, 2, generator=generator) * (limit / 2 - 32)
        xy = torch.rand(num_boxes, 2, generator=generator) * (limit - wh)
        instances = Instances(size)
        instances.gt_boxes = Boxes(torch.cat([xy, xy + wh], dim=1))
        instances.gt_classes = torch.randint(0, 80, (num_boxes,), generator=generator)
        batch.append({"image": image.clamp(0, 255), "instances": instances})
    return batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", default="320x544", help="height x width of the images")
    parser.add_argument("--images", type=int, default=2, help="images in a step")
    parser.add_argument("--iters", type=int, default=15, help="timed steps of each model")
    parser.add_argument("--warmup", type=int, default=2, help="steps of each before them")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--levers", action="store_true", help="time each lever alone too")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    size = tuple(int(x) for x in args.size.split("x"))
    batch = make_batch(size, args.images)
    configs = {**MODELS, **(LEVERS if args.levers else {})}
    models, steps = zip(
        *(build_step(*config, batch=batch, device=args.device) for config in configs.values())
    )
    for model in models[1:]:  # whose heads were drawn after a BFP was
        model.load_state_dict(models[0].state_dict(), strict=False)

    seconds = {name: [] for name in configs}
    with EventStorage() as storage:
        for i in range(args.warmup + args.iters):
            turn = list(zip(configs, steps))[:: -1 if i % 2 else 1]  # none always comes first
            for name, step in turn:
                cpu = time.process_time()
                wall = timeit(num_iters=1)(step)()["median"]
                if i >= args.warmup:
                    seconds[name].append((wall, time.process_time() - cpu))
        regions = [storage.latest()[f"roi_head/num_{x}_samples"][0] for x in ("fg", "bg")]
    assert all(torch.isfinite(p).all() for m in models for p in m.parameters())

    print(
        f"torch {torch.__version__}, {args.device}, {args.threads} threads, {args.iters} steps of "
        f"{args.images} x {args.size}, {regions[0]:.0f} + {regions[1]:.0f} regions an image"
    )
    print(f"{'model':34s} {'median s':>9s} {'ratio':>7s} {'min s':>9s} {'ratio':>7s}", end="")
    print(f" {'cpu s':>9s} {'ratio':>7s}")
    for name in configs:
        print(f"{name:34s}", end="")
        for reduce, column in ((np.median, 0), (np.min, 0), (np.median, 1)):
            value = reduce(seconds[name], axis=0)[column]
            base = reduce(seconds["plain"], axis=0)[column]
            print(f" {value:9.3f} {value / base:7.3f}", end="")
        print()


if __name__ == "__main__":
    main()
