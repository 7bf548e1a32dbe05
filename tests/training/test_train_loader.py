"""The stream of training batches: its order, its augmentation, and going on in the middle."""

import itertools
import multiprocessing
import subprocess

import numpy as np
import pytest
from detectron2.data.common import AspectRatioGroupedDataset
from detectron2.data.samplers import TrainingSampler

from libra_umop.training.loader import ResumableTrainLoader, group_samples

WIDE = [True, False, False, True, True, False, True]
DICTS = [{"index": i, "width": 2 if w else 1, "height": 1} for i, w in enumerate(WIDE)]


def augment(d):
    """A sample that shows its index and what it drew."""
    return {"index": d["index"], "drawn": np.random.rand(), "width": d["width"], "height": 1}


def loader(num_workers=0, seed=3):
    return ResumableTrainLoader(
        DICTS,
        augment,
        lambda: TrainingSampler(len(DICTS)),
        batch_size=2,
        is_wide=WIDE,
        num_workers=num_workers,
        seed=seed,
    )


def take(stream, count):
    return [[(d["index"], d["drawn"]) for d in batch] for batch in itertools.islice(stream, count)]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_stream_that_is_resumed_goes_on_as_if_never_stopped(num_workers):
    whole = take(loader(), 12)
    first = loader(num_workers)
    assert take(first, 5) == whole[:5]
    second = loader(num_workers, seed=99)
    assert second.load_state_dict(first.state_dict())
    assert take(second, 7) == whole[5:]


def test_batches_are_those_of_detectron2s_aspect_ratio_groups():
    indices = [int(i) for i in np.random.RandomState(0).randint(0, len(DICTS), 60)]
    ours = [[i for _, i in b] for b in group_samples(indices, WIDE, 3)]
    theirs = AspectRatioGroupedDataset([DICTS[i] for i in indices], 3)
    assert ours == [[d["index"] for d in batch] for batch in theirs]


def test_loading_leaves_the_global_generators_alone():
    import torch

    stream = iter(loader())
    next(stream)
    before = np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    next(stream)
    assert (np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before


def test_an_image_is_augmented_otherwise_each_time():
    drawn = [d for batch in take(loader(), 30) for _, d in batch]
    assert len(set(drawn)) == len(drawn)


def test_another_batch_size_starts_another_shuffle_and_says_so():
    first = loader()
    take(first, 4)
    state = {**first.state_dict(), "batch_size": 4}
    second = loader()
    assert not second.load_state_dict(state)
    assert second.batches_given == 0 and second.seed != first.seed


def test_worker_leaves_the_signals_that_stop_a_run_to_its_parent():
    """torchrun and schedulers signal every process of a run, its loader's workers too."""
    whole = take(loader(), 12)
    before = set(multiprocessing.active_children())
    stream = iter(loader(num_workers=1))
    assert take(stream, 1) == whole[:1]
    (worker,) = set(multiprocessing.active_children()) - before
    for name in ("TERM", "USR1", "INT", "TERM"):
        subprocess.run(["kill", f"-{name}", str(worker.pid)], check=True)  # not its parent
    assert take(stream, 11) == whole[1:]
    assert worker.is_alive()
    worker.terminate()  # as at the end of the parent, which would else wait for ever
    worker.join(30)
    assert worker.exitcode == 0
