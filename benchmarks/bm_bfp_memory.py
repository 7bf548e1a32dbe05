"""Peak memory of BFP's attention, forward and backward, against the plain matrix form of it.

    python benchmarks/bm_bfp_memory.py

Each figure is of a process of its own: the highest resident size on the CPU, or allocated on a GPU,
beyond the pyramid that goes in (1 image, 5 levels of 256 channels, P2 at a quarter of the image).
"""

import argparse
import resource
import subprocess
import sys

import torch

from libra_umop.functional.balanced_pyramid import BalancedFeaturePyramid, NonLocalRefinement

MIB = 2**20


class PlainRefinement(NonLocalRefinement):
    """The same block with its (HW, HW) matrix written out."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same interface as the parent's; holds the attention, (N, HW, HW)."""
        theta, phi, g = (conv(x).flatten(2) for conv in (self.theta, self.phi, self.g))
        attention = (theta.transpose(1, 2) @ phi).softmax(dim=-1)  # (N, HW, HW)
        return x + self.out((g @ attention.transpose(1, 2)).reshape(x.shape))


def resident_bytes() -> int:
    """Memory of this process that is in use."""
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * resource.getpagesize()


def measure(height: int, width: int, form: str, device: str) -> float:
    """Peak of one forward and backward in MiB; to be called once in a process."""
    rows, columns = -(-height // 32) * 8, -(-width // 32) * 8  # P2 of the padded image
    sizes = [(rows >> k, columns >> k) for k in range(4)] + [(-(-rows // 16), -(-columns // 16))]
    levels = [torch.randn(1, 256, *size, device=device, requires_grad=True) for size in sizes]
    bfp = BalancedFeaturePyramid(256, 2, "none" if form == "none" else "non_local")
    if form == "plain":
        bfp.refine = PlainRefinement(256)
    bfp.to(device)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    else:
        before = resident_bytes()

    sum(x.mean() for x in bfp(levels)).backward()

    if device == "cuda":
        return (torch.cuda.max_memory_allocated() - before) / MIB
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before) / MIB


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", nargs="+", default=["800x1333", "1200x1600"])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # what a process of its own measures
    args = parser.parse_args()
    height, width = (int(x) for x in args.sizes[0].split("x"))
    if args.one:
        print(measure(height, width, args.one, args.device))
        return

    print(f"torch {torch.__version__}, {args.device}; MiB; matrix: the (HW, HW) one in float32")
    print(f"{'size':>10s} {'matrix':>8s} {'no attention':>13s} {'fused':>8s} {'plain':>8s}")
    for size in args.sizes:
        height, width = (int(x) for x in size.split("x"))
        matrix = ((-(-height // 32) * 2) * (-(-width // 32) * 2)) ** 2 * 4 / MIB
        command = [sys.executable, __file__, "--sizes", size, "--device", args.device, "--one"]
        none, fused, plain = (
            float(subprocess.run([*command, f], check=True, capture_output=True, text=True).stdout)
            for f in ("none", "fused", "plain")
        )
        print(f"{size:>10s} {matrix:8.0f} {none:13.0f} {fused:8.0f} {plain:8.0f}")


if __name__ == "__main__":
    main()
