"""Fixtures that all tests share: data and peer numbers where present, and a fixed seed."""

import logging
import os
import sys
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")

REPO = Path(__file__).resolve().parents[1]
DEVICE = os.environ.get("LIBRA_UMOP_TEST_DEVICE", "cuda")
SHARED = Path(os.environ.get("LIBRA_UMOP_SHARED", REPO.parent / "shared"))


def pytest_runtest_setup(item):
    """Tests marked ``gpu`` are skipped where there is none: ``pytest -m gpu`` runs just these."""
    import torch

    rehearsal = "device" in item.fixturenames and DEVICE != "cuda"
    if item.get_closest_marker("gpu") and not rehearsal and not torch.cuda.is_available():
        pytest.skip("torch sees no GPU")


@pytest.fixture(scope="session")
def device() -> str:
    """Of the tests marked ``gpu``: "cuda", or LIBRA_UMOP_TEST_DEVICE, to rehearse them."""
    return DEVICE


@pytest.fixture(autouse=True)
def seed():
    """Every test starts from the same random state and with one thread."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def loggers_are_left_as_they_were():
    """What a run in this process logs to is the test's captured output, which is closed after it:
    the next test that logs would find "Logging error" among its own, or what it did not ask for."""
    loggers = [logging.getLogger(name) for name in ("detectron2", "fvcore", "libra_umop")]
    for logger in loggers:  # of a fixture that ran in an earlier test
        for handler in logger.handlers[:]:
            if getattr(getattr(handler, "stream", None), "closed", False):
                logger.removeHandler(handler)
    before = [(logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    yield
    for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
        logger.handlers[:] = handlers
        logger.setLevel(level)
        logger.propagate = propagate
    if "detectron2.utils.logger" in sys.modules:
        sys.modules["detectron2.utils.logger"].setup_logger.cache_clear()


@pytest.fixture(scope="session")
def repo() -> Path:
    """The root of the checkout."""
    return REPO


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with the real COCO-form sets `bccd` and `coco_tiny`."""
    if not (SHARED / "data" / "bccd").is_dir():
        pytest.skip(f"the real images of bccd and coco_tiny are not at {SHARED / 'data'}")
    return SHARED / "data"


@pytest.fixture(scope="session")
def peer() -> Path:
    """Folder with checkpoints and numbers that another implementation wrote."""
    if not (SHARED / "fixtures" / "peer").is_dir():
        pytest.skip(f"the other implementation's fixtures are not at {SHARED / 'fixtures'}")
    return SHARED / "fixtures" / "peer"


@pytest.fixture(scope="session")
def tiny_coco(tmp_path_factory):
    """Folder with images/ and annotations/ of a few drawn images."""
    from testing import engine_runs

    return engine_runs.write_dataset(tmp_path_factory.mktemp("data") / "tiny")
