"""When a line is printed, and what stands in it."""

import json
import logging
import re

import pytest
from detectron2.engine.train_loop import TrainerBase
from detectron2.utils.events import EventWriter, JSONWriter

from libra_umop.training.hooks import LoggerHook, PeriodicWriter


class Run(TrainerBase):
    """A trainer whose steps take ``seconds`` of a clock that is its own."""

    def __init__(self, max_iter, seconds, make_hooks):
        super().__init__()
        self.now, self.seconds = 100.0, seconds
        self.register_hooks(make_hooks(lambda: self.now))
        self.train(0, max_iter)

    def run_step(self):
        self.now += self.seconds
        self.storage.put_scalar("total_loss", 1.5)


@pytest.fixture
def lines(caplog):
    logging.getLogger("detectron2").propagate = True
    caplog.set_level(logging.INFO)
    return lambda: [r.getMessage() for r in caplog.records if "iter: " in r.getMessage()]


def iterations(lines):
    return [int(re.search(r"iter: (\d+)", line)[1]) for line in lines]


@pytest.mark.parametrize(
    "seconds, printed",
    [(0.01, [0, 99]), (1.0, [0, *range(5, 100, 5), 99]), (60.0, list(range(100)))],
    ids=["fast", "a second", "a minute"],
)
def test_the_first_step_prints_and_then_at_most_one_line_in_some_seconds(seconds, printed, lines):
    Run(100, seconds, lambda clock: [LoggerHook(100, interval_s=5, clock=clock)])
    assert iterations(lines()) == printed
    assert "total_loss: 1.5" in lines()[0] and "epoch" not in lines()[0]


def test_epochs_stand_beside_the_iterations(lines):
    Run(8, 9.0, lambda clock: [LoggerHook(8, epochs=2, interval_s=5, clock=clock)])
    assert re.match(r" epoch: 0\.25/2 +iter: 0 ", lines()[0])
    assert re.match(r" epoch: 2\.00/2 +(eta: \S+ +)?iter: 7 ", lines()[-1])


@pytest.mark.parametrize("watched, interval", [(True, 5), (False, 20)])
def test_a_terminal_gets_lines_more_often(watched, interval, monkeypatch, lines):
    monkeypatch.setattr("sys.stdout.isatty", lambda: watched, raising=False)
    Run(50, 1.0, lambda clock: [LoggerHook(50, clock=clock)])
    assert iterations(lines()) == [*range(0, 50, interval), 49]


def test_metrics_are_written_every_20_iterations_to_a_file_opened_when_training_begins(tmp_path):
    file = tmp_path / "metrics.json"
    hook = PeriodicWriter(lambda: [JSONWriter(str(file))])
    assert not file.exists()
    Run(45, 1.0, lambda clock: [hook, LoggerHook(45, interval_s=3, clock=clock)])
    written = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["iteration"] for line in written] == [19, 39, 44]
    assert all("total_loss" in line for line in written)


def test_all_writers_are_closed_though_one_cannot_write():
    class Writer(EventWriter):
        closed = False

        def write(self):
            raise OSError(28, "No space left on device")

        def close(self):
            self.closed = True

    writers = [Writer(), Writer()]
    with pytest.raises(OSError, match="No space"):
        Run(1, 1.0, lambda clock: [PeriodicWriter(lambda: writers)])
    assert all(writer.closed for writer in writers)
