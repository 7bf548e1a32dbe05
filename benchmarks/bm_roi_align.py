"""ROIAlign in training: torchvision's operator, and the sparse product of this project.

    python benchmarks/bm_roi_align.py --size 320x544 --images 2
    python benchmarks/bm_roi_align.py --size 800x1333 --images 1

The regions are random squares of 18 to 78 px, read from stride 4 with 256 channels and Detectron2's
arguments of ROIAlign, forward and backward, the two ways in turn.
"""

import argparse
import statistics
import time

import torch
from torchvision.ops import roi_align

from libra_umop.functional.roi_align import sparse_roi_align


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", default="320x544", help="height x width of the images")
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--regions", type=int, default=512, help="of each image")
    parser.add_argument("--iters", type=int, default=9, help="timed runs of each way")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    height, width = (int(x) for x in args.size.split("x"))
    shape = (args.images, 256, height // 4, width // 4)
    features = torch.randn(shape, requires_grad=True)
    half = 9 + 30 * torch.rand(args.images * args.regions, 1)
    center = torch.rand(len(half), 2) * torch.tensor([width, height])
    image_idxs = torch.arange(args.images).repeat_interleave(args.regions)[:, None]
    rois = torch.cat([image_idxs, center - half, center + half], dim=1)
    ways = {"torchvision": roi_align, "sparse": sparse_roi_align}
    grad = torch.randn(len(rois), 256, 7, 7)

    seconds = {name: [] for name in ways}
    results = {}
    for i in range(args.iters + 1):
        for name, way in ways.items():
            features.grad = None
            times = [time.perf_counter()]
            pooled = way(features, rois, (7, 7), 0.25, 0, True)
            times.append(time.perf_counter())
            pooled.backward(grad)
            times.append(time.perf_counter())
            results[name] = (pooled.detach(), features.grad)
            if i > 0:
                seconds[name].append((times[1] - times[0], times[2] - times[1]))

    print(f"torch {torch.__version__}, {args.threads} threads")
    print(f"{len(rois)} regions of features {shape}, medians")
    for name, values in seconds.items():
        forward, backward = (statistics.median(column) for column in zip(*values, strict=True))
        print(f"{name:12s} forward {forward * 1e3:7.1f} ms, backward {backward * 1e3:7.1f} ms")
    pairs = zip(results["sparse"], results["torchvision"], strict=True)
    errors = [((a - b).abs().max() / b.abs().max()).item() for a, b in pairs]
    print("largest difference over largest value: {:.1e}, gradient {:.1e}".format(*errors))


if __name__ == "__main__":
    main()
