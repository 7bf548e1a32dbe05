"""The Triton kernels of focal and quality losses, by Triton's interpreter where there is no GPU."""

import importlib.util
import os
import subprocess
import sys

import pytest

SCRIPT = """
import itertools
import torch
from libra_umop.functional.focal_loss.kernels import TritonSigmoidLossSum
from libra_umop.functional.focal_loss.sums import _OWN_TERMS, SigmoidLossSum

torch.manual_seed(0)
NUMBERS = ((2.0, 0.25, 0.75), (0.0, 1.0, 1.0), (torch.tensor(1.7), 1.0, torch.tensor(0.3)))
for kind, (K, num_rows) in itertools.product(_OWN_TERMS, ((1, 7), (5, 300), (80, 41))):
    labels = torch.randint(-1, K + 1, (num_rows,))
    x = 4 * torch.randn(num_rows, K)
    x.flatten()[:7] = torch.tensor([100.0, -100.0, 30.0, -30.0, 0.0, 1e-8, -1e-8])
    quality = torch.rand(num_rows)
    quality[:4], quality[labels < 0] = torch.tensor([0.0, 1.0, 0.5, 1.0]), float("nan")
    for numbers in NUMBERS:
        for dtype in (torch.float32, torch.bfloat16):
            results = []
            sides = ((SigmoidLossSum, torch.float64), (TritonSigmoidLossSum, dtype))
            for function, dtype_i in sides:
                logits = x.to(dtype, copy=True).to(dtype_i).detach().requires_grad_()
                quality_i = None if kind == "focal" else quality
                loss = function.apply(kind, logits, labels, quality_i, *numbers)
                (3 * loss).backward()
                results.append((loss.detach().double(), logits.grad.double()))
            (loss, grad), (actual, actual_grad) = results
            torch.testing.assert_close(actual, loss, rtol=1e-5, atol=1e-6)
            rtol = 1e-4 if dtype == torch.float32 else 1e-2
            torch.testing.assert_close(actual_grad, grad, rtol=rtol, atol=1e-6)
empty = torch.zeros(0, 3, requires_grad=True)
no_labels, no_quality = torch.zeros(0, dtype=torch.int64), torch.zeros(0)
loss = TritonSigmoidLossSum.apply("varifocal", empty, no_labels, no_quality, 2.0, 1.0, 0.75)
loss.backward()
assert loss == 0 and empty.grad.shape == (0, 3)
print("all equal")
"""


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_kernels_give_the_loss_and_gradient_of_the_eager_path(repo):
    path = os.pathsep.join([str(repo / "projects"), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "all equal"
