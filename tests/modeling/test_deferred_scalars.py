"""Scalars that come from a device later than they are put, without a device."""

import copy
import gc

import pytest
import torch
from detectron2.utils.events import EventStorage

from libra_umop.modeling import scalars
from libra_umop.modeling.scalars import DeferredScalars


class OnDevice(torch.Tensor):
    """A tensor that says of itself that it is on a GPU."""

    is_cuda = True


class Event:
    """The numbers are on the host when it was waited for, and not before."""

    def __init__(self, host, values):
        self.host, self.values = host, values

    def synchronize(self):
        self.host.copy_(self.values)


@pytest.fixture
def put(monkeypatch):
    """``put(deferred, value)`` of one scalar "x" from a device."""

    def start_copy(values):
        host = torch.full(values.shape, -1.0)
        return host, Event(host, values.as_subclass(torch.Tensor))

    monkeypatch.setattr(scalars, "_start_copy", start_copy)
    return lambda deferred, x: deferred.put(["x"], torch.tensor([x]).as_subclass(OnDevice))


def history(storage):
    return [] if "x" not in storage.histories() else storage.history("x").values()


def test_scalars_are_written_one_call_later_under_their_own_iteration(put):
    deferred = DeferredScalars()
    with EventStorage(start_iter=10) as storage:
        for value in (1.0, 2.0, 3.0):
            put(deferred, value)
            storage.step()
        assert history(storage) == [(1.0, 10), (2.0, 11)]


def test_a_storage_within_another_neither_gets_nor_gives_scalars(put):
    deferred = DeferredScalars()
    with EventStorage(start_iter=10) as training:
        put(deferred, 1.0)
        with EventStorage() as validation:
            put(deferred, 7.0)
            put(deferred, 8.0)
            assert history(validation) == [(7.0, 0)]
        training.step()
        put(deferred, 2.0)
        assert history(training) == [(1.0, 10)]


def test_what_is_pending_goes_with_its_storage_and_is_not_copied(put):
    deferred = DeferredScalars()
    with EventStorage():
        put(deferred, 1.0)
        assert len(deferred._pending) == 1 and len(copy.deepcopy(deferred)._pending) == 0
    gc.collect()
    assert len(deferred._pending) == 0
