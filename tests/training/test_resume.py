"""Runs that are killed, preempted or interrupted, against runs that were not."""

import signal

import pytest
import torch

from testing.engine_runs import LIBRA, RETINANET, differences, run, weights, write_config

# The averaged weights, the best evaluation and the running normaliser have to survive as well.
WITH_ALL = ["SOLVER.EMA.ENABLED", "True", "TEST.EVAL_PERIOD", "2", "TEST.VAL_LOSS.ENABLED", "True"]
WITH_ALL += ["TEST.BEST_CHECKPOINT.METRIC", "val/total_loss", "TEST.BEST_CHECKPOINT.MODE", "min"]

VFNET = {
    **RETINANET,
    "MODEL": {
        **RETINANET["MODEL"],
        "META_ARCHITECTURE": "VFNet",
        "ANCHOR_GENERATOR": {
            "SIZES": [[64], [128], [256], [512], [1024]],
            "ASPECT_RATIOS": [[1.0]],
        },
        "ATSS": {"NUM_CONVS": 1, "NORM": "", "CLS_LOSS_TYPE": "progressive_varifocal"},
    },
}
GFL = {
    **VFNET,
    "MODEL": {
        **VFNET["MODEL"],
        "META_ARCHITECTURE": "GFL",
        "ATSS": {"NUM_CONVS": 1, "NORM": "", "CLS_LOSS_TYPE": "progressive_quality_focal"},
    },
}
# What remembers: the order of repeated images and their mosaics, which end before the run does, and
# how often each class was seen.
REPEATED = {
    **RETINANET,
    "INPUT": {**RETINANET["INPUT"], "MOSAIC": {"PROB": 0.7, "UNTIL": 0.8}},
    "DATALOADER": {
        **RETINANET["DATALOADER"],
        "SAMPLER_TRAIN": "RepeatFactorTrainingSampler",
    },
}
SEESAW = {
    **LIBRA,
    "MODEL": {
        **LIBRA["MODEL"],
        "ROI_BOX_HEAD": {**LIBRA["MODEL"]["ROI_BOX_HEAD"], "CLS_LOSS_TYPE": "seesaw"},
    },
}


def rename_hooks(file):
    """The state of the hooks as version 0.1.0 wrote it."""
    checkpoint = torch.load(file, weights_only=True)
    names = {"EvalHook": "Evaluate", "BestCheckpointHook": "BestSoFar", "EMAHook": "WeightAverage"}
    states = checkpoint["trainer"]["hooks"]
    assert set(names) <= set(states)
    checkpoint["trainer"]["hooks"] = {names.get(name, name): x for name, x in states.items()}
    torch.save(checkpoint, file)


@pytest.mark.parametrize(
    "config, of_0_1_0",
    [(REPEATED, False), (SEESAW, True), (VFNET, False), (GFL, False)],
    ids=["retinanet, repeated mosaics", "libra with seesaw, of 0.1.0", "vfnet", "gfl"],
)
def test_run_that_was_killed_ends_with_the_weights_of_one_that_was_not(
    config, of_0_1_0, tiny_coco, tmp_path
):
    config = write_config(tmp_path / "config.yaml", config)
    args = ["--config-file", config, "--dataset", tiny_coco]
    whole = run([*args, *WITH_ALL, "OUTPUT_DIR", tmp_path / "whole"])
    killed = run([*args, *WITH_ALL, "OUTPUT_DIR", tmp_path / "killed"], misbehave="KILL@4@0")
    if of_0_1_0:
        rename_hooks(tmp_path / "killed" / "model_0000003.pth")
    resumed = run([*args, "--resume", *WITH_ALL, "OUTPUT_DIR", tmp_path / "killed"])
    assert (whole.returncode, killed.returncode, resumed.returncode) == (0, -signal.SIGKILL, 0), (
        resumed.out[-3000:]
    )
    assert "Resumed after iteration 3" in resumed.out
    for name in ("model", "training_model"):
        expected = weights(tmp_path / "whole" / "model_final.pth", name)
        got = weights(tmp_path / "killed" / "model_final.pth", name)
        assert differences(expected, got) == {}
    expected = weights(tmp_path / "whole" / "model_final.pth", "trainer")
    got = weights(tmp_path / "killed" / "model_final.pth", "trainer")
    assert got["hooks"] == expected["hooks"]
    assert got["normalizers"] == expected["normalizers"]
    best = weights(tmp_path / "whole" / "model_best.pth", "best")
    assert weights(tmp_path / "killed" / "model_best.pth", "best") == best


@pytest.mark.parametrize("name", ["TERM", "USR1", "INT"])
def test_signal_writes_a_checkpoint_and_resume_goes_on(name, tiny_coco, tmp_path):
    config = write_config(tmp_path / "config.yaml", RETINANET)
    args = ["--config-file", config, "--dataset", tiny_coco, "OUTPUT_DIR", tmp_path / "out"]
    args += ["TEST.BEST_CHECKPOINT.ENABLED", "False"]
    stopped = run(args, misbehave=f"{name}@2@0")
    assert stopped.returncode == 75, stopped.out[-3000:]
    assert f"SIG{name}: stopped after iteration 2 of 6; go on with --resume" in stopped.out
    assert (tmp_path / "out" / "last_checkpoint").read_text() == "model_0000002.pth"
    assert weights(tmp_path / "out" / "model_0000002.pth", "iteration") == 2
    if name == "TERM":
        resumed = run([*args[:4], "--resume", *args[4:]])
        assert resumed.returncode == 0, resumed.out[-3000:]
        assert "Resumed after iteration 2" in resumed.out
        assert weights(tmp_path / "out" / "model_final.pth", "iteration") == 5


@pytest.mark.parametrize("what, stopped_after", [("TEST", 1), ("VAL", 1), ("RESUMED", 2)])
def test_a_signal_at_all_processes_during_an_evaluation_leaves_a_checkpoint(
    what, stopped_after, tiny_coco, tmp_path
):
    """As torchrun, Slurm and Kubernetes send it: the workers of the test loaders get it, too. A run
    that was killed makes up for its evaluation before its first iteration."""
    config = write_config(tmp_path / "config.yaml", RETINANET)
    args = ["--config-file", config, "--dataset", tiny_coco, "--resume"]
    args += ["OUTPUT_DIR", tmp_path / "out", "DATALOADER.NUM_WORKERS", "1"]
    args += ["TEST.EVAL_PERIOD", "2", "TEST.VAL_LOSS.ENABLED", str(what == "VAL")]
    if what == "RESUMED":
        killed = run([*args, "TEST.BEST_CHECKPOINT.ENABLED", "False"], misbehave="KILL@2@0")
        assert killed.returncode == -signal.SIGKILL
    stopped = run(args, misbehave=f"GROUP{'VAL' if what == 'VAL' else 'TEST'}@-1@0")
    assert stopped.returncode == 75, stopped.out[-3000:]
    assert f"SIGTERM: stopped after iteration {stopped_after} of 6" in stopped.out
    assert "DataLoader worker" not in stopped.out
    name = f"model_{stopped_after:07d}.pth"
    assert (tmp_path / "out" / "last_checkpoint").read_text() == name
