"""ROIAlign of regions as a random sampler leaves them, and of the same from top to bottom.

    python benchmarks/bm_region_order.py --size 800x1333 --images 1

The regions are random squares of 18 to 78 px, read from stride 4 with 256 channels and Detectron2's
arguments of ROIAlign, forward and backward.
"""

import argparse
import statistics
import time

import torch
from torchvision.ops import roi_align


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", default="320x544", help="height x width of the images")
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--regions", type=int, default=512, help="of each image")
    parser.add_argument("--iters", type=int, default=9, help="timed runs of each order")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    height, width = (int(x) for x in args.size.split("x"))
    shape = (args.images, 256, height // 4, width // 4)
    features = torch.randn(shape, device=args.device, requires_grad=True)
    half = 9 + 30 * torch.rand(args.images, args.regions, 1)
    center = torch.rand(args.images, args.regions, 2) * torch.tensor([width, height])
    boxes = torch.cat((center - half, center + half), dim=2).to(args.device)
    orders = {"random": list(boxes), "top to bottom": [b[b[:, 1].argsort()] for b in boxes]}

    seconds = {name: [] for name in orders}
    for i in range(args.iters + 1):
        for name, regions in orders.items():
            features.grad = None
            times = [_now(args.device)]
            pooled = roi_align(features, regions, 7, spatial_scale=0.25, aligned=True)
            times.append(_now(args.device))
            pooled.backward(pooled.detach())
            times.append(_now(args.device))
            if i > 0:
                seconds[name].append((times[1] - times[0], times[2] - times[1]))

    print(f"torch {torch.__version__}, {args.device}, {args.threads} threads, {shape}, medians")
    for name, values in seconds.items():
        forward, backward = (statistics.median(column) for column in zip(*values))
        print(f"{name:14s} forward {forward * 1e3:7.1f} ms, backward {backward * 1e3:7.1f} ms")


def _now(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


if __name__ == "__main__":
    main()
