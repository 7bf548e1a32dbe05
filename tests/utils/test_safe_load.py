"""Weights files that others wrote: what loads, what is refused, and that nothing runs."""

import io
import os
import pickle
import pickletools

import numpy as np
import pytest
import torch

from libra_umop.data.dataset_args import DataSource
from libra_umop.errors import ConfigError
from libra_umop.training.checkpoint.checkpointer import LibraCheckpointer
from libra_umop.training.measuring_run import collect, configured
from libra_umop.utils.safe_load import safe_pickle_load, safe_torch_load
from testing.engine_runs import RETINANET, write_config


class Exploit:
    def __init__(self, flag):
        self.flag = flag

    def __reduce__(self):
        return os.system, (f"touch {self.flag}",)


@pytest.mark.parametrize("suffix", ["pkl", "pth", "pyth"])
def test_a_pickle_that_runs_a_command_is_refused(suffix, tmp_path):
    flag, path = tmp_path / "flag", str(tmp_path / f"weights.{suffix}")
    content = {"model": {"w": Exploit(flag)}, "__author__": "eve", "model_state": {}}
    if suffix == "pkl":
        with open(path, "wb") as f:
            pickle.dump(content, f)
    else:
        torch.save(content, path)
    with pytest.raises(ConfigError, match="refused.*system.*tensors, arrays and plain containers"):
        LibraCheckpointer(torch.nn.Linear(1, 1)).load(path, checkpointables=[])
    assert not flag.exists()


@pytest.mark.parametrize("suffix", ["pkl", "pth", "pyth"])
@pytest.mark.parametrize(
    "content, said",
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\n", "a pointer of Git LFS"),
        (b"\n <!DOCTYPE HTML>\n<html>", "a web page"),
        (b"\x1f\x8b\x08\x00abc", "compressed by gzip"),
    ],
)
def test_what_came_in_place_of_weights_is_named(suffix, content, said, tmp_path):
    path = tmp_path / f"weights.{suffix}"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=f"^{path}: is {said}"):
        LibraCheckpointer(torch.nn.Linear(1, 1)).load(str(path), checkpointables=[])


def test_a_report_of_weights_that_run_a_command_is_refused(tiny_coco, tmp_path):
    flag, path = tmp_path / "flag", tmp_path / "weights.pkl"
    with open(path, "wb") as f:
        pickle.dump({"model": {"w": Exploit(flag)}, "__author__": "eve"}, f)
    config = write_config(tmp_path / "c.yaml", RETINANET)
    opts = ["MODEL.WEIGHTS", str(path), "OUTPUT_DIR", str(tmp_path / "out")]
    cfg = configured(str(config), DataSource(dataset=str(tiny_coco)), opts)
    with pytest.raises(ConfigError, match="refused: it asks for"):
        collect(cfg, 1)
    assert not flag.exists()


def test_the_same_pickle_runs_in_detectron2(tmp_path):
    """So that the test above means something."""
    from detectron2.checkpoint import DetectionCheckpointer

    flag, path = tmp_path / "flag", str(tmp_path / "weights.pkl")
    with open(path, "wb") as f:
        pickle.dump({"model": {"w": Exploit(flag)}, "__author__": "eve"}, f)
    with pytest.raises(Exception):
        DetectionCheckpointer(torch.nn.Linear(1, 1)).load(path)
    assert flag.exists()


@pytest.mark.parametrize("protocol", range(6))
def test_model_zoo_pickles_of_all_protocols_load(protocol, tmp_path):
    weights = {"weight": np.full((1, 1), 3.0, np.float32), "bias": np.full(1, 2.0, np.float32)}
    path = str(tmp_path / "zoo.pkl")
    with open(path, "wb") as f:
        pickle.dump({"model": weights, "__author__": "zoo"}, f, protocol=protocol)
    model = torch.nn.Linear(1, 1)
    LibraCheckpointer(model).load(path, checkpointables=[])
    assert (model.weight.item(), model.bias.item()) == (3.0, 2.0)


@pytest.mark.parametrize("room", ["numpy.core", "numpy._core"])
def test_arrays_pickled_by_numpy_1_and_2_load(room, tmp_path):
    data = pickle.dumps({"w": np.arange(3.0), "s": np.float64(2.5)}, protocol=2)
    here = "numpy._core" if b"numpy._core" in data else "numpy.core"
    path = tmp_path / "weights.pkl"
    path.write_bytes(data.replace(here.encode(), room.encode()))
    assert any(room in str(arg) for _, arg, _ in pickletools.genops(path.read_bytes()))
    loaded = safe_pickle_load(str(path))
    assert loaded["w"].tolist() == [0, 1, 2] and loaded["s"] == 2.5


def test_caffe2_blobs_load_as_weights_to_be_matched(tmp_path):
    path = str(tmp_path / "c2.pkl")
    blobs = {"conv1_w": np.zeros((2, 3, 1, 1), np.float32), "conv1_w_momentum": np.zeros(1)}
    with open(path, "wb") as f:
        pickle.dump({"blobs": blobs}, f, protocol=2)
    loaded = LibraCheckpointer(torch.nn.Linear(1, 1))._load_file(path)
    assert list(loaded["model"]) == ["conv1_w"]
    assert loaded["matching_heuristics"] and loaded["__author__"] == "Caffe2"


def test_numpy_values_in_a_checkpoint_load(tmp_path):
    path = str(tmp_path / "x.pth")
    torch.save({"a": np.float64(3), "b": np.arange(2), "c": [1, "x", None]}, path)
    loaded = safe_torch_load(path)
    assert loaded["a"] == 3 and loaded["b"].tolist() == [0, 1] and loaded["c"] == [1, "x", None]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("suffix", ["pth", "pkl"])
def test_a_truncated_file_is_named(suffix, share, tmp_path):
    path, buffer = tmp_path / f"x.{suffix}", io.BytesIO()
    if suffix == "pth":
        torch.save({"w": torch.zeros(100)}, buffer)
    else:
        pickle.dump({"w": np.zeros(100)}, buffer)
    data = buffer.getvalue()
    path.write_bytes(data[: int(len(data) * share)])
    load = safe_torch_load if suffix == "pth" else safe_pickle_load
    with pytest.raises(ConfigError, match=f"x.{suffix}: is not a whole"):
        load(str(path))


def test_checkpoints_of_another_implementation_load(peer):
    for path in sorted(peer.glob("*_mmdet.pth")):
        assert safe_torch_load(str(path))["state_dict"], path.name
