"""Training batches whose order and augmentation depend on a seed and on the position alone.

Detectron2's loader keeps its position in the sampler, in half-filled aspect ratio buckets of
decoded images and in the random state of each worker, and none of it can be saved. Here the batches
are made of indices, before anything is decoded, and each sample draws its augmentation from a
stream of its own. So a run can go on from batch n as if it had never been stopped, whatever the
number of workers, and the number of processes does not change which augmentation an image gets.
"""

import contextlib
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.data import build_detection_train_loader
from detectron2.data.common import DatasetFromList
from detectron2.data.samplers import RepeatFactorTrainingSampler
from detectron2.utils import comm
from torch.utils.data import Dataset, Sampler

from ..data.augmentation.mosaic import Mosaic
from ..data.check.class_balance import with_repeat_threshold
from ..data.shielded_loader import ShieldedDataLoader
from ..errors import ConfigError
from ..utils.rng import sample_rng
from .pinned import PinnableBatch, send
from .setup import quiet_console

logger = logging.getLogger(__name__)

# A sample: its position in the stream of this rank's sampler, and its index into the dataset.
Sample = tuple[int, int]


def build_train_loader(cfg, mapper: Callable | None = None) -> "ResumableTrainLoader":
    """Same datasets, samplers and mapper as ``detectron2.data.build_detection_train_loader``.

    Raises:
        ConfigError: the batch cannot be shared by the processes.
    """
    world_size, total = comm.get_world_size(), cfg.SOLVER.IMS_PER_BATCH
    if total % (world_size * cfg.SOLVER.GRADIENT_ACCUMULATION):
        raise ConfigError(
            f"SOLVER.IMS_PER_BATCH is {total}, should be a multiple of the number of processes"
            f" {world_size} times SOLVER.GRADIENT_ACCUMULATION {cfg.SOLVER.GRADIENT_ACCUMULATION}"
        )
    from_config = build_detection_train_loader.from_config
    # Any sampler but None; ours is built when its seed is known.
    parts = from_config(cfg, mapper=mapper, sampler=())
    is_wide = [d.get("width", 0) > d.get("height", 0) for d in parts["dataset"]]
    dataset = DatasetFromList(parts["dataset"], copy=False)
    cfg, about_repeats = with_repeat_threshold(cfg, parts["dataset"])
    if about_repeats:
        logger.info(about_repeats)

    def build_sampler() -> Sampler:
        return _quietly(from_config, cfg, mapper=parts["mapper"], dataset=dataset)["sampler"]

    mosaic = None
    if cfg.INPUT.MOSAIC.PROB:
        weights = _draws(build_sampler)
        mosaic = Mosaic.from_config(cfg, parts["mapper"], dataset, weights=weights)
    return ResumableTrainLoader(
        dataset,
        parts["mapper"],
        build_sampler,
        batch_size=total // world_size,
        is_wide=is_wide if cfg.DATALOADER.ASPECT_RATIO_GROUPING else None,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        pinned_for=_pinned_for(cfg),
        mosaic=mosaic,
        mosaic_until=round(cfg.INPUT.MOSAIC.UNTIL * cfg.SOLVER.MAX_ITER),
    )


def _draws(build_sampler: Callable[[], Sampler]) -> Any | None:
    """How often the sampler draws each image, on average; None: all alike.

    Only repeat factors, to which Detectron2's weighted samplers come down, make a difference.
    """
    with _numpy_seed(0):  # its order is not wanted
        sampler = build_sampler()
    if not isinstance(sampler, RepeatFactorTrainingSampler):
        return None
    return (sampler._int_part + sampler._frac_part).tolist()


def _pinned_for(cfg) -> torch.device | None:
    """Where batches are sent, if they are to be pinned. Pictures are drawn of boxes on the host."""
    device = torch.device(cfg.MODEL.DEVICE)
    is_pinned = cfg.DATALOADER.PIN_MEMORY and device.type == "cuda" and cfg.VIS_PERIOD == 0
    return device if is_pinned else None


def _quietly(function: Callable, *args: Any, **kwargs: Any) -> Any:
    """Call it while training is about to begin, when people look at other lines."""
    with quiet_console():
        return function(*args, **kwargs)


class ResumableTrainLoader:
    """An endless iterable of batches that knows how many it has given.

    Args:
        dataset: Detectron2's dataset dicts.
        mapper: makes a training sample of a dict.
        build_sampler: returns an endless sampler of this rank's indices; it may draw its seed from
            numpy's generator, as Detectron2's samplers do.
        batch_size: of this process.
        is_wide: per dict, its aspect ratio group; batches are of one group. None: no groups.
        num_workers: processes that decode and augment.
        mosaic: makes the samples instead of ``mapper``, for the first ``mosaic_until`` iterations.
        mosaic_until: counted from the start of the run, a batch each.
        seed: of order and augmentation; by default drawn from numpy's generator, the same on all
            ranks.
        pinned_for: a CUDA device: batches are pinned and sent there, see :mod:`.pinned`. None:
            they stay in the host's memory as they are.
    """

    def __init__(
        self,
        dataset: Sequence[dict[str, Any]],
        mapper: Callable,
        build_sampler: Callable[[], Sampler],
        *,
        batch_size: int,
        is_wide: Sequence[bool] | None = None,
        num_workers: int = 0,
        mosaic: Callable | None = None,
        mosaic_until: int = 0,
        seed: int | None = None,
        pinned_for: torch.device | None = None,
    ):
        self.batch_size = batch_size
        self.seed = comm.shared_random_seed() if seed is None else seed
        self.batches_given = 0
        self._dataset = dataset
        self._mappers = {False: mapper, True: mosaic}
        self._mosaic_until = mosaic_until if mosaic else 0
        self._iterations_before = 0  # of this run, in a stream that was left
        self._build_sampler = build_sampler
        self._is_wide = is_wide or [False] * len(dataset)
        self._num_workers = num_workers
        self._pinned_for = pinned_for

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        with _numpy_seed(self.seed):
            sampler = self._build_sampler()
        groups = group_samples(sampler, self._is_wide, self.batch_size)
        batches = (
            [(*sample, iteration < self._mosaic_until) for sample in samples]
            for iteration, samples in enumerate(groups, self._iterations_before)
        )
        loader = ShieldedDataLoader(
            _SeededDataset(self._dataset, self._mappers, self.seed, *_rank_and_size()),
            batch_sampler=_Batches(itertools.islice(batches, self.batches_given, None)),
            num_workers=self._num_workers,
            collate_fn=PinnableBatch,
            pin_memory=self._pinned_for is not None,
            generator=torch.Generator().manual_seed(self.seed),  # leaves the global one alone
        )
        for batch in loader:
            self.batches_given += 1
            yield send(batch, self._pinned_for) if self._pinned_for else batch

    def state_dict(self) -> dict[str, int]:
        """Seed and position, and what they hold for."""
        return {
            "seed": self.seed,
            "batches_given": self.batches_given,
            "iterations_before": self._iterations_before,
            "batch_size": self.batch_size,
            "world_size": comm.get_world_size(),
        }

    def load_state_dict(self, state: dict[str, int]) -> bool:
        """Go on where ``state`` was taken; before iterating.

        Returns:
            whether the order goes on exactly. With another batch size or number of processes the
            stream is another one: it then starts with a seed of its own, so that the images at the
            head of the first epoch are not seen twice.
        """
        same = (state["batch_size"], state["world_size"]) == (
            self.batch_size,
            comm.get_world_size(),
        )
        before = state.get("iterations_before", 0)
        self._iterations_before = before + (0 if same else state["batches_given"])
        self.seed = state["seed"] if same else (state["seed"] + state["batches_given"]) % 2**31
        self.batches_given = state["batches_given"] if same else 0
        return same


def group_samples(
    indices: Iterable[int], is_wide: Sequence[bool], batch_size: int
) -> Iterator[list[Sample]]:
    """Batches of ``(position, index)``, each of one aspect ratio group.

    Args:
        indices: an endless stream of dataset indices.
        is_wide: the group of each index.
        batch_size: samples in a batch; a group's batch is given as soon as it is full.
    """
    groups: dict[bool, list[Sample]] = {False: [], True: []}
    for position, index in enumerate(indices):
        group = groups[is_wide[index]]
        group.append((position, int(index)))
        if len(group) == batch_size:
            yield group[:]
            group.clear()


class _Batches(Sampler):
    """What ``DataLoader(batch_sampler=)`` wants: something that is iterated once."""

    def __init__(self, batches: Iterator[list[tuple[int, int, bool]]]):
        self._batches = batches

    def __iter__(self) -> Iterator[list[tuple[int, int, bool]]]:
        return self._batches


class _SeededDataset(Dataset):
    """Maps ``(position, index, is_mosaic)`` under a random stream of that position on all ranks."""

    def __init__(self, dataset: Sequence, mappers: dict, seed: int, rank: int, world_size: int):
        self._dataset = dataset
        self._mappers = mappers
        self._seed = seed
        self._rank = rank
        self._world_size = world_size

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, sample: tuple[int, int, bool]) -> dict[str, Any]:
        position, index, is_mosaic = sample
        stream = np.random.SeedSequence([self._seed, position * self._world_size + self._rank])
        with sample_rng(int(stream.generate_state(1)[0])):
            return self._mappers[is_mosaic](self._dataset[index])


@contextlib.contextmanager
def _numpy_seed(seed: int) -> Iterator[None]:
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)


def _rank_and_size() -> tuple[int, int]:
    return comm.get_rank(), comm.get_world_size()
