"""One tiny dataset for all tests of the engine."""

import engine_runs
import pytest


@pytest.fixture(scope="session")
def tiny_coco(tmp_path_factory):
    """Folder with images/ and annotations/ of a few drawn images."""
    return engine_runs.write_dataset(tmp_path_factory.mktemp("data") / "tiny")
