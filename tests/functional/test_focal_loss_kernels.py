"""The Triton kernels of the focal loss, run by Triton's interpreter where there is no GPU."""

import importlib.util
import os
import subprocess
import sys

import pytest

SCRIPT = """
import torch
from libra_umop.functional.focal_loss import _FocalLossSum
from libra_umop.functional.focal_loss_kernels import TritonFocalLossSum

torch.manual_seed(0)
for K, num_rows in ((1, 7), (5, 300), (80, 41)):
    labels = torch.randint(-1, K + 1, (num_rows,))
    x = 4 * torch.randn(num_rows, K)
    x.flatten()[:7] = torch.tensor([100.0, -100.0, 30.0, -30.0, 0.0, 1e-8, -1e-8])
    for gamma, alpha in ((2.0, 0.25), (0.0, -1), (torch.tensor(1.7), torch.tensor(0.3))):
        for dtype in (torch.float32, torch.bfloat16):
            results = []
            for function, dtype_i in ((_FocalLossSum, torch.float64), (TritonFocalLossSum, dtype)):
                logits = x.to(dtype, copy=True).to(dtype_i).detach().requires_grad_()
                loss = function.apply(logits, labels, gamma, alpha)
                (3 * loss).backward()
                results.append((loss.detach().double(), logits.grad.double()))
            (loss, grad), (actual, actual_grad) = results
            torch.testing.assert_close(actual, loss, rtol=1e-5, atol=1e-6)
            rtol = 1e-4 if dtype == torch.float32 else 1e-2
            torch.testing.assert_close(actual_grad, grad, rtol=rtol, atol=1e-6)
empty = torch.zeros(0, 3, requires_grad=True)
loss = TritonFocalLossSum.apply(empty, torch.zeros(0, dtype=torch.int64), 2.0, 0.25)
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
