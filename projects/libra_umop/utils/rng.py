"""All the random generators that training draws from, as one state."""

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from detectron2.utils.env import seed_all_rng


def get_rng_state() -> dict[str, Any]:
    """State of python's, numpy's, torch's and every CUDA device's generator, in containers."""
    numpys: Any = np.random.get_state(legacy=True)
    name, keys, position, has_gauss, gauss = numpys
    version, words, gauss_next = random.getstate()
    return {
        "python": [version, list(words), gauss_next],
        "numpy": [name, keys.tolist(), position, has_gauss, gauss],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_rng_state(state: dict[str, Any]) -> None:
    """Restore what :func:`get_rng_state` returned.

    CUDA states of a machine with another number of devices are left out.
    """
    version, words, gauss_next = state["python"]
    random.setstate((version, tuple(words), gauss_next))
    name, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), position, has_gauss, gauss))
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])


@contextlib.contextmanager
def preserved_rng() -> Iterator[None]:
    """Whatever is drawn inside does not change what is drawn afterwards."""
    state = get_rng_state()
    try:
        yield
    finally:
        set_rng_state(state)


@contextlib.contextmanager
def sample_rng(seed: int) -> Iterator[None]:
    """Draw inside from a stream of ``seed``, as one training sample does; CPU generators only.

    Cheaper than :func:`preserved_rng`, which copies every CUDA device's state.
    """
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


__all__ = ["get_rng_state", "set_rng_state", "preserved_rng", "sample_rng", "seed_all_rng"]
