"""The device of these tests: a GPU, or what LIBRA_UMOP_TEST_DEVICE names (cpu: a dress rehearsal)."""

import os

import pytest
import torch


@pytest.fixture(scope="session")
def device() -> str:
    """"cuda", where there is one; otherwise the test is skipped."""
    name = os.environ.get("LIBRA_UMOP_TEST_DEVICE", "cuda")
    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch sees no GPU")
    return name
