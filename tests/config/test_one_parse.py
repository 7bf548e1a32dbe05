"""From the command line to the trainer a config is read once, and each of its keys checked once."""

from collections import Counter

import pytest

from libra_umop.cli import training_run
from libra_umop.cli.commands.train import main
from libra_umop.config import checks, devices, loading
from libra_umop.data.dataset_args import DataSource
from libra_umop.key import KEYS
from libra_umop.training import measuring_run
from testing.engine_runs import RETINANET, write_config, write_dataset


class AtTheTrainer(Exception):
    """The way ends here."""


@pytest.fixture
def counted(monkeypatch, tmp_path):
    """What is called how often, by name; files and keys by theirs."""
    counts = Counter()

    def count(module, name, of):
        function = getattr(module, name)

        def counting(*args, **kwargs):
            counts[of(*args)] += 1
            return function(*args, **kwargs)

        monkeypatch.setattr(module, name, counting)

    monkeypatch.delenv("WORLD_SIZE", raising=False)
    count(loading, "_parse", lambda text, filename: filename)
    count(checks, "_check", lambda where, name, *rest: name)
    for name in ("contradictions", "_check_steps", "_check_samplers", "_check_cls_loss"):
        count(checks, name, lambda *args, name=name: name)
    for module in (devices, measuring_run):
        count(module, "choose_device", lambda *args: "choose_device")
    return counts


@pytest.fixture
def run(tmp_path):
    """A config with a base, and a dataset."""
    base, config = str(tmp_path / "base.yaml"), str(tmp_path / "config.yaml")
    write_config(tmp_path / "base.yaml", RETINANET)
    write_config(tmp_path / "config.yaml", {"_BASE_": base, "SEED": 3})
    data = write_dataset(tmp_path / "data")
    return base, config, str(data), ["OUTPUT_DIR", str(tmp_path / "out")]


def once(counted, base, config):
    assert counted[base] == counted[config] == 1
    keys = {name: counted[name] for name in KEYS}
    assert set(keys.values()) == {1}, {name: n for name, n in keys.items() if n != 1}
    rest = {name: n for name, n in counted.items() if name not in KEYS}
    assert set(rest.values()) == {1}, rest


@pytest.mark.parametrize("more", [[], ["--epochs", "2", "--fit-image-size"]])
def test_training_reads_once_and_checks_once(counted, run, more, monkeypatch):
    base, config, data, opts = run

    def trainer(cfg, **kwargs):
        raise AtTheTrainer

    monkeypatch.setattr(training_run, "LibraTrainer", trainer)
    with pytest.raises(AtTheTrainer):
        main(["--config-file", config, "--dataset", data, *more, *opts])
    once(counted, base, config)


def test_a_report_reads_once_and_checks_once(counted, run):
    base, config, data, opts = run
    measuring_run.configured(config, DataSource(dataset=data), opts)
    once(counted, base, config)


def test_what_the_dataset_decides_has_to_go_together_too(run, capsys):
    """5 images in 2 epochs are 5 iterations, where the step that was asked for never comes."""
    _, config, data, opts = run
    with pytest.raises(SystemExit) as end:
        main(["--config-file", config, "--dataset", data, "--epochs", "2", "SOLVER.STEPS", "(50,)"])
    assert end.value.code == 2
    assert "SOLVER.STEPS is (50,), should be increasing and inside" in capsys.readouterr().err
