"""Several processes on the CPU: as one, and all ending when one of them has to."""

import re
import sys
from pathlib import Path

import pytest

from testing.engine_runs import (
    LIBRA,
    RETINANET,
    differences,
    run,
    weights,
    write_config,
    write_dataset,
)

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import train_net  # noqa: E402

ATSS = {
    **RETINANET,
    "MODEL": {
        **RETINANET["MODEL"],
        "META_ARCHITECTURE": "ATSS",
        # A group norm over the few values of a 1x1 map is a sign: it blows rounding up. The early
        # layers, where all of it arrives, are frozen as by default.
        "ATSS": {"NORM": "", "NUM_CONVS": 1},
        "BACKBONE": {**RETINANET["MODEL"]["BACKBONE"], "FREEZE_AT": 2},
        "ANCHOR_GENERATOR": {
            "SIZES": [[64], [128], [256], [512], [1024]],
            "ASPECT_RATIOS": [[1.0]],
        },
    },
    "INPUT": {**RETINANET["INPUT"], "MIN_SIZE_TRAIN": [64]},
    "SOLVER": {**RETINANET["SOLVER"], "IMS_PER_BATCH": 4, "MAX_ITER": 5, "CHECKPOINT_PERIOD": 9},
}
QUICK = ["TEST.BEST_CHECKPOINT.ENABLED", "False", "DATASETS.TEST", "()"]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def with_port(port):
    return ["--num-gpus", "2", "--dist-url", f"tcp://127.0.0.1:{port}"]


@pytest.fixture
def free_port():
    from detectron2.engine.launch import _find_free_port

    return _find_free_port()


def train_here(args):
    assert train_net.run([str(arg) for arg in args]) == 0


def test_two_processes_with_half_the_batch_are_one_with_all_of_it(tmp_path, free_port):
    """All images have one size, as padding depends on what else is in a batch. In the end they
    evaluate one image, fewer than there are ranks."""
    config = write_config(tmp_path / "config.yaml", ATSS)
    data = write_dataset(tmp_path / "few", num_val=1, tall=())
    args = ["--config-file", config, "--dataset", data]
    train_here([*args, "OUTPUT_DIR", tmp_path / "one"])
    runs = {
        "two": run([*args, *with_port(free_port), "OUTPUT_DIR", tmp_path / "two"]),
        "torchrun": run([*args, "OUTPUT_DIR", tmp_path / "torchrun"], launcher=TORCHRUN),
    }
    one = weights(tmp_path / "one" / "model_final.pth")
    for name, done in runs.items():
        assert done.returncode == 0, f"{name}:\n{done.out[-3000:]}"
        assert "copypaste: AP,AP50" in done.out, name
        diffs = differences(one, weights(tmp_path / name / "model_final.pth"))
        assert max(diffs.values(), default=0) < 1e-5, name
        state = weights(tmp_path / name / "model_final.pth", "trainer")
        assert state["data"]["world_size"] == 2 and len(state["rng"]) == 2


def test_a_loss_that_is_nan_on_one_rank_ends_all_ranks_with_the_images_names(
    tiny_coco, tmp_path, free_port
):
    config = write_config(tmp_path / "config.yaml", RETINANET)
    args = ["--config-file", config, "--dataset", tiny_coco, *with_port(free_port), *QUICK]
    done = run([*args, "OUTPUT_DIR", tmp_path / "out"], misbehave="NAN@3@1")
    assert done.returncode == 1, done.out[-3000:]
    assert "Loss became infinite or NaN at iteration 3" in done.out
    assert re.search(r"rank 1: loss_cls = nan.*; images: .*/images/train_\d.png", done.out)
    assert "rank 0: " not in done.out.split("the weights were not changed by it")[1][:300]
    assert (tmp_path / "out" / "last_checkpoint").read_text() == "model_0000001.pth"


def test_an_exception_on_one_rank_ends_all_ranks(tiny_coco, tmp_path, free_port):
    config = write_config(tmp_path / "config.yaml", RETINANET)
    args = ["--config-file", config, "--dataset", tiny_coco, *with_port(free_port), *QUICK]
    done = run([*args, "OUTPUT_DIR", tmp_path / "out"], misbehave="RAISE@2@1")
    assert done.returncode == 1
    assert "an accident in the forward pass" in done.out
    assert "Rank 1 failed at iteration 2, in the forward pass of" in done.out
    told = "PeerError: Rank 1 failed at iteration 2, in the forward pass of .*/images/train_.*:"
    assert re.search(told + ".* an accident in the forward pass; rank 0 ends too", done.out)


def test_signal_at_one_rank_stops_all_ranks_at_one_iteration(tmp_path, free_port):
    """With images almost all of which are empty, so that ranks have no ground truth at all."""
    config = write_config(tmp_path / "config.yaml", LIBRA)
    data = write_dataset(tmp_path / "empty", empty=(1, 2, 3, 4, 5))
    args = ["--config-file", config, "--dataset", data, *with_port(free_port), *QUICK]
    done = run([*args, "OUTPUT_DIR", tmp_path / "out"], misbehave="USR1@4@1")
    assert done.returncode == 75, done.out[-3000:]
    assert "stopped after iteration 4 of 6" in done.out
    state = weights(tmp_path / "out" / "model_0000004.pth", "trainer")
    assert len(state["rng"]) == 2 and state["iteration"] == 4


def test_sigterm_at_torchrun_reaches_data_loader_workers_and_still_a_checkpoint_is_written(
    tiny_coco, tmp_path
):
    """torchrun signals the whole process group of each rank."""
    config = write_config(tmp_path / "config.yaml", RETINANET)
    args = ["--config-file", config, "--dataset", tiny_coco, *QUICK, "DATALOADER.NUM_WORKERS", "1"]
    args += ["SOLVER.MAX_ITER", "500", "SOLVER.CHECKPOINT_PERIOD", "500"]
    done = run([*args, "OUTPUT_DIR", tmp_path / "out"], misbehave="LAUNCHER@2@1", launcher=TORCHRUN)
    stopped = re.search(r"SIGTERM: stopped after iteration (\d+) of 500", done.out)
    assert stopped, done.out[-3000:]
    name = f"model_{int(stopped.group(1)):07d}.pth"
    assert (tmp_path / "out" / "last_checkpoint").read_text() == name
    assert weights(tmp_path / "out" / name, "iteration") == int(stopped.group(1))
    assert "DataLoader worker" not in done.out


def test_what_all_ranks_cannot_use_is_said_once(tmp_path, free_port):
    config = write_config(tmp_path / "config.yaml", RETINANET)
    args = ["--config-file", config, "--dataset", tmp_path / "nix", *with_port(free_port)]
    done = run([*args, "OUTPUT_DIR", tmp_path / "out"])
    assert done.returncode == 2, done.out[-3000:]
    assert done.out.count("DatasetError: ") == 1 and "Traceback" not in done.out
