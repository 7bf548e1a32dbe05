"""Focal and quality losses on class indices and ATSS matching against Detectron2's paths, one run.

    python benchmarks/bm_umop_losses.py
    python benchmarks/bm_umop_losses.py --anchors 20000 --boxes 100 --threads 2

The two sides alternate; times are medians (and shortest) over ``--iters``. Memory is what the
process grows by at its peak (Linux, CPU) or what CUDA allocates at its peak.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from detectron2.modeling.matcher import Matcher
from detectron2.structures import Boxes, pairwise_iou
from fvcore.nn import sigmoid_focal_loss_jit
from torch.nn import functional as F

from libra_umop.functional.atss_matching import atss_match
from libra_umop.functional.focal_loss import focal_loss_sum
from libra_umop.functional.progressive_focal_loss import progressive_focus
from libra_umop.functional.quality_losses import quality_focal_loss_sum, varifocal_loss_sum

STRIDES = (8, 16, 32, 64, 128)


def peak_memory_mib(function: Callable[[], None], device: str) -> float:
    """MiB that are needed on top of what is there, at the worst moment of one call."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    with open("/proc/self/clear_refs", "w") as f:
        f.write("5")  # forget the peak
    before = status_kib("VmRSS")
    function()
    return (status_kib("VmHWM") - before) / 2**10


def status_kib(key: str) -> int:
    """A number of /proc/self/status."""
    with open("/proc/self/status") as f:
        return int(next(line for line in f if line.startswith(key)).split()[1])


def measure(functions: dict[str, Callable[[], None]], iters: int, device: str) -> None:
    """Print time and memory of each, and the ratio to the first."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    memory: dict[str, float] = {}
    for name, function in functions.items():
        function()  # warm up: compilation, caches
        function()
        memory[name] = peak_memory_mib(function, device)
    for _ in range(iters):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if device == "cuda":
                torch.cuda.synchronize()
            seconds[name].append(time.perf_counter() - start)
    base = next(iter(functions))
    print(f"{'':34s}{'median ms':>11s}{'ratio':>7s}{'min ms':>9s}{'ratio':>7s}{'peak MiB':>10s}")
    for name, values in seconds.items():
        print(
            f"{name:34s}{1e3 * statistics.median(values):11.1f}"
            f"{statistics.median(values) / statistics.median(seconds[base]):7.2f}"
            f"{1e3 * min(values):9.1f}{min(values) / min(seconds[base]):7.2f}{memory[name]:10.0f}"
        )


def make_levels(num_images: int, num_anchors: int, num_classes: int, device: str):
    """Logits at the start of training; 0.3 % of the anchors positive, 1 % ignored."""
    logits = torch.randn(num_images * num_anchors, num_classes, device=device) - 4.6
    kind = torch.rand(len(logits), device=device)
    labels = torch.full((len(logits),), num_classes, device=device)
    labels[kind < 0.01] = -1
    is_pos = kind > 0.997
    labels[is_pos] = torch.randint(0, num_classes, (int(is_pos.sum()),), device=device)
    return logits.requires_grad_(), labels


def focal_losses(args) -> dict[str, Callable[[], None]]:
    """What is timed of the focal losses, by name."""
    logits, labels = make_levels(2, args.anchors_focal, args.classes, args.device)
    quality = torch.rand(len(labels), device=args.device)

    def step(loss: torch.Tensor) -> None:
        logits.grad = None
        loss.backward()

    def detectron2() -> None:
        valid = labels >= 0
        targets = F.one_hot(labels[valid], num_classes=args.classes + 1)[:, :-1]
        targets = targets.to(logits.dtype)
        step(sigmoid_focal_loss_jit(logits[valid], targets, 0.25, 2.0, reduction="sum"))

    def progressive() -> None:
        gamma, alpha = progressive_focus(logits, labels)
        step(focal_loss_sum(logits, labels, gamma=gamma, alpha=alpha))

    return {
        "one_hot + sigmoid_focal_loss_jit": detectron2,
        "focal_loss_sum": lambda: step(focal_loss_sum(logits, labels, gamma=2.0, alpha=0.25)),
        "progressive_focus + focal_loss_sum": progressive,
        "quality_focal_loss_sum": lambda: step(quality_focal_loss_sum(logits, labels, quality)),
        "varifocal_loss_sum": lambda: step(varifocal_loss_sum(logits, labels, quality)),
    }


def matchings(args) -> dict[str, Callable[[], None]]:
    """What is timed of the matching, by name."""
    height = int((args.anchors / 2) ** 0.5)  # P3 holds three quarters of all anchors
    anchors, num_anchors_per_level = [], []
    for stride in STRIDES:
        h, w = -(-height * 8 // stride), -(-height * 12 // stride)
        y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        centers = torch.stack((x, y), dim=-1).reshape(-1, 2) * float(stride)
        anchors.append(torch.cat((centers - 4 * stride, centers + 4 * stride), dim=1))
        num_anchors_per_level.append(h * w)
    anchors = torch.cat(anchors).to(args.device)
    wh = torch.exp(torch.rand(args.boxes, 2) * 3 + 3)
    center = torch.rand(args.boxes, 2) * torch.tensor([height * 12.0, height * 8.0])
    gt_boxes = torch.cat((center - wh / 2, center + wh / 2), dim=1).to(args.device)
    matcher = Matcher([0.4, 0.5], [0, -1, 1], allow_low_quality_matches=True)
    print(f"{len(anchors)} anchors, {args.boxes} boxes")
    return {
        "pairwise_iou + Matcher": lambda: matcher(pairwise_iou(Boxes(gt_boxes), Boxes(anchors))),
        "atss_match": lambda: atss_match(anchors, num_anchors_per_level, gt_boxes),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--anchors-focal", type=int, default=60000, help="per image, of 2 images")
    parser.add_argument("--classes", type=int, default=80)
    parser.add_argument("--anchors", type=int, default=20000, help="of the matching, about")
    parser.add_argument("--boxes", type=int, default=100)
    parser.add_argument("--iters", type=int, default=10)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {args.device}, {args.threads} threads, {args.iters} runs")
    print(f"2 x {args.anchors_focal} anchors x {args.classes} classes, forward + backward")
    measure(focal_losses(args), args.iters, args.device)
    measure(matchings(args), args.iters, args.device)


if __name__ == "__main__":
    main()
