"""A folder that holds a run is not another's: refused, gone on with, replaced or set aside."""

from types import SimpleNamespace

import pytest
from detectron2.utils import comm

from libra_umop.errors import ConfigError
from libra_umop.imbalance.probes.collector import ImbalanceCollector
from libra_umop.training.hooks import BestCheckpointHook, PeriodicWriter
from libra_umop.training.output_dir import (
    claim_output_dir,
    clear_output_dir,
    free_folder,
    set_run_aside,
    traces_of_run,
)
from libra_umop.utils.ranks import heard_by_all_ranks
from testing.ranks import on_ranks

TRACES = [
    "model_0000009.pth",
    "model_final.pth",
    "model_best.pth",
    "last_checkpoint",
    "metrics.json",
    "imbalance/steps.jsonl",
    "events.out.tfevents.1.host.2.0",
]
OF_OTHERS = ["log.txt", "config.yaml", "inference/x.json", "annotations/val.json", "notes.txt"]


def write(folder, *names, text="{}\n"):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def names(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize("name", TRACES)
def test_whatever_a_run_leaves_keeps_another_one_out(name, tmp_path):
    write(tmp_path, name)
    with pytest.raises(ConfigError) as info:
        claim_output_dir(str(tmp_path))
    message = str(info.value)
    assert message.startswith(f"OUTPUT_DIR is {str(tmp_path)!r}, which holds a run (")
    assert name.split("/")[0] in message and "\n" not in message
    assert "--resume" in message and "another OUTPUT_DIR" in message and "--overwrite" in message
    assert names(tmp_path) == [name]


def test_what_evaluations_and_people_leave_does_not(tmp_path):
    write(tmp_path, *OF_OTHERS)
    write(tmp_path, "metrics.json", text="")  # opened, and nothing written
    assert claim_output_dir(str(tmp_path)) == f"OUTPUT_DIR is {tmp_path}, for a new run"


def test_a_folder_that_is_not_there_is_made(tmp_path):
    claim_output_dir(str(tmp_path / "a" / "b"), resume=True)
    assert (tmp_path / "a" / "b").is_dir()


@pytest.mark.parametrize("overwrite", [False, True])
def test_resume_is_let_in_and_wins_over_overwrite(overwrite, tmp_path):
    write(tmp_path, *TRACES)
    line = claim_output_dir(str(tmp_path), resume=True, overwrite=overwrite)
    assert line.endswith("with a run to go on with (--resume)")


def test_overwriting_removes_the_run_and_nothing_else(tmp_path):
    write(tmp_path, *TRACES, *OF_OTHERS, "wandb_id")
    line = claim_output_dir(str(tmp_path), overwrite=True)
    assert "will be replaced" in line and len(names(tmp_path)) == len(TRACES + OF_OTHERS) + 1
    clear_output_dir(str(tmp_path))
    assert names(tmp_path) == sorted(set(OF_OTHERS) - {"inference/x.json"})
    assert traces_of_run(str(tmp_path)) == []


def test_what_cannot_be_resumed_is_set_aside_and_kept(tmp_path):
    for folder in ("aborted", "aborted_2"):
        write(tmp_path, *TRACES, "log.txt")
        assert set_run_aside(str(tmp_path)) == str(tmp_path / folder)
        assert names(tmp_path / folder) == sorted(TRACES)
    assert set_run_aside(str(tmp_path)) == ""


@pytest.mark.parametrize("folder", ["file/below", "file", "/proc/nothing"])
def test_a_folder_that_cannot_be_written_is_one_line(folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="^OUTPUT_DIR is '.*', which cannot be written: [^\n]+$"):
        claim_output_dir(str(tmp_path / folder))


def test_a_free_folder_is_a_new_or_an_empty_one(tmp_path):
    look = tmp_path / "look"
    assert free_folder(str(look)) == str(look)
    look.mkdir()
    assert free_folder(str(look)) == str(look)
    write(look, "metrics.json")
    write(tmp_path, "look_2")
    assert free_folder(str(look)) == f"{look}_3"


def fail(*args, **kwargs):
    raise OSError(28, "No space left on device")


def write_metrics():
    hook = PeriodicWriter(lambda: [SimpleNamespace(write=fail)], period=2)
    hook.trainer = SimpleNamespace(iter=1, max_iter=10)
    hook.before_train()
    hook.after_step()


def keep_the_best():
    evaluate = SimpleNamespace(count=1, metrics={"bbox/AP": 1.0}, done_until=1)
    BestCheckpointHook(evaluate, SimpleNamespace(save_weights=fail)).after_step()


def collect_imbalance():
    hook = ImbalanceCollector(output_dir="/dev/null", period=1, meta={})
    probe = SimpleNamespace(guard=lambda f: f(), attach=fail, detach=fail, seconds=0.0)
    hook.build_probes = lambda model: [probe]
    hook._probes = [probe] if comm.is_main_process() else []
    hook.trainer = SimpleNamespace(iter=0)
    hook.after_step()


def meet_errors(rank, folder):
    """One of two ranks, of which only the first sees a used folder, and a full disk."""
    said = []
    try:
        claim_output_dir(f"{folder}/{'new' if rank else 'used'}")
    except ConfigError as e:
        said.append(str(e))
    try:
        with heard_by_all_ranks():
            if rank == 0:
                raise OSError(28, "No space left on device")
    except OSError as e:
        said.append(f"{e.errno} {e.strerror}")
    for meet in (write_metrics, keep_the_best, collect_imbalance):
        try:
            meet()
        except OSError as e:
            said.append(f"{meet.__name__}: {e.strerror}")
    return said


def test_all_ranks_do_what_the_main_rank_finds(tmp_path):
    write(tmp_path, "used/model_final.pth")
    (tmp_path / "ranks").mkdir()
    said, other = on_ranks(meet_errors, tmp_path / "ranks", str(tmp_path))
    assert said == other and len(said) == 5
    hooks = ("write_metrics", "keep_the_best", "collect_imbalance")
    assert said[2:] == [f"{name}: No space left on device" for name in hooks]
    assert "which holds a run" in said[0] and said[1] == "28 No space left on device"
    assert not (tmp_path / "new").exists()
