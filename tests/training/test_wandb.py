"""Weights & Biases: how a run is started and gone on with, without the service."""

import sys
import types

import pytest

from libra_umop.config.loading import load_config
from libra_umop.errors import ConfigError
from libra_umop.training.hooks.wandb import start_wandb


@pytest.fixture
def cfg(tmp_path):
    cfg = load_config("", ["WANDB.ENABLED", "True", "WANDB.PROJECT", "cells"])
    cfg.OUTPUT_DIR = str(tmp_path / "first_try")
    (tmp_path / "first_try").mkdir()
    return cfg


def test_a_run_follows_tensorboard_and_is_gone_on_with_under_its_id(cfg, monkeypatch):
    calls = []

    def init(**kwargs):
        calls.append(kwargs)
        return types.SimpleNamespace(id=kwargs["id"] or "abc123")

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init))
    start_wandb(cfg)
    start_wandb(cfg)
    assert [call["id"] for call in calls] == [None, "abc123"]
    assert calls[0]["sync_tensorboard"] is True and calls[0]["resume"] == "allow"
    assert (calls[0]["project"], calls[0]["name"]) == ("cells", "first_try")
    assert calls[0]["config"]["SOLVER"]["BASE_LR"] == cfg.SOLVER.BASE_LR


def test_without_wandb_the_extra_is_named(cfg, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match=r'pip install -e "\.\[wandb\]"'):
        start_wandb(cfg)
