"""Whole studies as commands: killed, failing, late, collected elsewhere, submitted to Slurm."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch
import yaml
from study_files import REPO, environment, records, run_study, study_command, write_study_files

from libra_umop.errors import ConfigError
from libra_umop.study.answer.results import collect
from libra_umop.study.plan import PlannedRun
from libra_umop.study.scheduler import Scheduler
from libra_umop.study.slurm import array_index
from libra_umop.utils.safe_load import safe_torch_load

REASON = "scipy, of the extra 'study', is not installed"
NOOP = {  # neither is read by the baseline, or both are as the baseline's
    "noop_key": {"MODEL.UMOP.W": 0.4},
    "noop_class": {
        "MODEL.META_ARCHITECTURE": "UMOPATSS",
        "MODEL.UMOP.PROGRESSIVE_FOCUS": False,
        "MODEL.UMOP.LEVEL_WISE": False,
    },
}
WORDS = ["--seeds", "2", "SOLVER.MAX_ITER", "20"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    made = write_study_files(folder)
    rows = folder / "noop.yaml"
    rows.write_text(yaml.safe_dump(NOOP))
    return {**made, "levers": f"pfl,{rows}"}


@pytest.fixture(scope="module")
def whole(files, tmp_path_factory):
    """A study that nobody disturbed."""
    output = tmp_path_factory.mktemp("whole") / "study"
    done = run_study(files, output, "--levers", files["levers"], *WORDS)
    assert done.returncode == 0, done.stderr
    return output, done.stdout


def final_weights(output, variant, seed):
    path = output / "runs" / "shapes" / variant / f"seed_{seed}" / "model_final.pth"
    return safe_torch_load(str(path))["model"]


@pytest.mark.parametrize("variant", NOOP)
def test_a_lever_that_does_nothing_gives_the_same_weights_bit_for_bit(whole, variant):
    output, _ = whole
    for seed in (1, 2):
        base, other = (final_weights(output, name, seed) for name in ("baseline", variant))
        assert base.keys() == other.keys()
        assert all(torch.equal(base[name], other[name]) for name in base)
    pfl = final_weights(output, "pfl", 1)
    base = final_weights(output, "baseline", 1)
    assert not all(torch.equal(base[name], pfl[name]) for name in base)


def test_each_run_is_an_ordinary_output_dir(whole):
    output, _ = whole
    folder = output / "runs" / "shapes" / "pfl" / "seed_2"
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["SEED"] == 2 and config["OUTPUT_DIR"] == str(folder)
    assert (folder / "metrics.json").is_file() and (folder / "log.txt").is_file()
    assert (folder / "inference" / "coco_instances_results.json").is_file()


def test_killed_twice_it_ends_with_the_table_of_one_that_was_not(whole, files, tmp_path):
    output = tmp_path / "study"
    command = study_command(files, output, "--levers", "pfl", *WORDS)
    for reached, signum in enumerate((signal.SIGKILL, signal.SIGTERM), 1):
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment()
        )
        wait_until(
            lambda n=reached, p=process: checkpoint_exists(output, n) or p.poll() is not None
        )
        process.send_signal(signum)
        process.communicate(timeout=60)
        assert process.returncode == (75 if signum == signal.SIGTERM else -signal.SIGKILL)
    finished = {key for key, r in records(output).items() if r["status"] == "done"}
    assert 0 < len(finished) < 4
    before = {key: r for key, r in records(output).items() if key in finished}
    done = run_study(files, output, "--levers", "pfl", *WORDS)
    assert done.returncode == 0, done.stderr
    after = records(output)
    assert len(after) == 4
    assert {key: after[key] for key in finished} == before  # not made again
    expected = records(whole[0])
    assert all(after[key]["metrics"] == expected[key]["metrics"] for key in after)
    if importlib.util.find_spec("scipy") is None:
        pytest.skip("the runs are equal; scipy, of the extra 'study', makes the table of them")
    ours, theirs = ap_columns(done.stdout), ap_columns(whole[1])
    assert ours == {name: theirs[name] for name in ("variant", "baseline", "pfl")}


def wait_until(condition, seconds=120):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def checkpoint_exists(output, number):
    """Whether the run after ``number - 1`` finished ones is past its first checkpoint."""
    found = records(output)
    over = sum(r["status"] == "done" for r in found.values())
    started = [k for k, r in found.items() if r["status"] == "started"]
    folders = [output / "runs" / "shapes" / v / f"seed_{s}" for v, s in started]
    return over >= number - 1 and any(list(f.glob("model_0*.pth")) for f in folders)


def ap_columns(text):
    """Number of seeds, all APs and the difference, by variant, out of the table."""
    lines = text.split("\nshapes\n", 1)[1].split("\n\n")[0].splitlines()
    step = lines[0].index("step")
    return {line.split()[0]: line[:step].split()[1:] for line in lines}


def test_a_failing_run_is_a_row_that_says_why_and_not_the_end(files, tmp_path):
    rows = tmp_path / "rows.yaml"
    # Found when the model is built only: no pyramid has a level p9.
    levels = ["p3", "p4", "p5", "p6", "p9"]
    rows.write_text(yaml.safe_dump({"broken": {"MODEL.ATSS.IN_FEATURES": levels}}))
    words = ["--levers", str(rows), "--seeds", "1", "--jobs", "2", "SOLVER.MAX_ITER", "2"]
    done = run_study(files, tmp_path / "study", *words)
    assert done.returncode == 0, done.stderr
    found = records(tmp_path / "study")
    assert found["baseline", 1]["status"] == "done"
    assert found["broken", 1]["status"] == "failed" and "p9" in found["broken", 1]["reason"]
    assert "broken seed 1 failed: " in done.stdout or "scipy" in done.stderr
    words[-1] = "3"
    changed = run_study(files, tmp_path / "study", *words)
    assert changed.returncode == 2
    assert "was run with another config: SOLVER.MAX_ITER was 2, is 3" in changed.stderr
    assert "Traceback" not in changed.stderr


@pytest.mark.parametrize(
    "seconds, seeds_begun, words",
    [(20.0, [], "4 runs would not"), (70.0, [1], "3 runs would not")],
)
def test_what_cannot_end_in_time_is_not_started(tmp_path, monkeypatch, seconds, seeds_begun, words):
    """Two runs of 20 s do not end in 30 s, so no seed is begun; a seed that was begun goes on until
    its next run does not end in time."""
    lines, started = [], []
    runs = [
        PlannedRun("d", name, seed, SimpleNamespace(OUTPUT_DIR=str(tmp_path / f"{name}{seed}")))
        for seed in (1, 2)
        for name in ("baseline", "pfl")
    ]
    minutes = 0.5 if not seeds_begun else 1.5
    scheduler = Scheduler(runs=runs, jobs=1, threads=1, minutes=minutes, say=lines.append)
    if not seeds_begun:
        scheduler.know(runs[0], seconds)

    def end_at_once(run):
        started.append(run.seed)
        scheduler.know(run, seconds)
        scheduler._deadline -= seconds

    monkeypatch.setattr(scheduler, "_fork", end_at_once)
    assert not scheduler.run()
    assert started == seeds_begun
    assert any(words in line for line in lines)


def test_collecting_needs_neither_config_nor_data(whole, tmp_path):
    pytest.importorskip("scipy", reason=REASON)
    output, text = whole
    command = study_command({"dataset": "gone", "config": "gone"}, output, "--collect")
    done = subprocess.run(command, capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stderr
    assert ap_columns(done.stdout) == ap_columns(text)
    results = json.loads((output / "results.json").read_text())
    rows = {row["name"]: row for row in results["datasets"]["shapes"]["variants"]}
    difference = rows["noop_key"]["metrics"]["AP"]["difference"]
    assert (difference["mean"], difference["verdict"]) == (0.0, "not shown")
    assert rows["noop_key"]["step_ratio"] > 0 and rows["baseline"]["memory_mib"] > 0


def test_page_has_a_forest_plot_and_curves_and_needs_no_network(whole):
    pytest.importorskip("scipy", reason=REASON)
    pytest.importorskip("plotly", reason="plotly, of the extra 'plots', is not installed")
    page = (whole[0] / "study.html").read_text()
    # the losses of 20 iterations are one point, and no curve
    assert page.count('class="plotly-graph-div"') == 2
    assert "Difference of AP to the baseline" in page and "noop_class" in page
    assert "<script src" not in page and "<link href" not in page


def test_names_that_are_scripts_stay_text_in_the_page(whole):
    pytest.importorskip("scipy", reason=REASON)
    page_of = pytest.importorskip("libra_umop.study.answer.page", reason="no plotly").page_of
    results = collect(whole[0])
    plain = page_of(results, whole[0])
    evil = "<script>alert(1)</script>"
    results["notes"].append(evil)
    results["opts"] = [evil]
    results["datasets"] = {evil: results["datasets"].pop("shapes")}
    for row in results["datasets"][evil]["variants"][1:]:
        row.update(name=evil, title=evil, keys=evil)
    page = page_of(results, whole[0])
    assert page.count("<script") == plain.count("<script") - 1  # no curve of such a name
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 10


def test_a_run_that_detects_nothing_has_an_ap_of_0(files, tmp_path):
    """As COCO defines it, where Detectron2's evaluator says NaN; left out, it would flatter."""
    words = ["--levers", "pfl", "--seeds", "1", "SOLVER.MAX_ITER", "2"]
    done = run_study(files, tmp_path, *words, "MODEL.ATSS.SCORE_THRESH_TEST", "1.0")
    assert done.returncode == 0, done.stderr
    found = records(tmp_path)
    assert [r["status"] for r in found.values()] == ["done", "done"]
    metrics = found["pfl", 1]["metrics"]
    assert metrics["bbox/AP"] == metrics["bbox/AP50"] == 0.0 and metrics["bbox/APs"] is None
    log = tmp_path / "runs" / "shapes" / "pfl" / "seed_1" / "log.txt"
    assert "detects nothing at all" in log.read_text()


def test_no_thread_of_the_plan_is_lost_in_the_copies(files, tmp_path):
    """A progress bar starts one, unless it is told not to."""
    command = study_command(files, tmp_path / "s", "--seeds", "1", "--levers", "pfl")[2:]
    code = (
        "import sys, threading; from libra_umop.study import scheduler, command;"
        "command.Scheduler.run = lambda self: print('threads', threading.active_count());"
        "from libra_umop.cli.commands.study import argument_parser;"
        "command.make_runs(argument_parser().parse_intermixed_args(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *command], capture_output=True, text=True, env=environment()
    )
    assert "threads 1\n" in done.stdout, done.stdout + done.stderr


def test_folder_without_a_study_is_named(tmp_path):
    command = study_command({"dataset": "gone", "config": "gone"}, tmp_path, "--collect")
    done = subprocess.run(command, capture_output=True, text=True, env=environment())
    assert done.returncode == 2 and "is it the --output of a study?" in done.stderr


SBATCH = """#!/usr/bin/env bash
echo "$TRAIN_PROGRAM" > "{out}"
printf '%s\\n' "$@" >> "{out}"
echo "Submitted batch job 7"
"""


def test_slurm_gets_one_task_for_each_run_that_is_left(files, tmp_path):
    out, tool = tmp_path / "said", tmp_path / "bin" / "sbatch"
    tool.parent.mkdir()
    tool.write_text(SBATCH.format(out=out))
    tool.chmod(0o755)
    output = tmp_path / "study"
    words = ["--levers", "pfl", "--seeds", "2", "--jobs", "3", "SOLVER.MAX_ITER", "2"]
    task = {**environment(), "SLURM_ARRAY_TASK_ID": "1"}  # pfl, seed 1
    command = study_command(files, output, *words)
    made = subprocess.run([*command, "--task"], capture_output=True, text=True, env=task)
    assert made.returncode == 0, made.stderr
    assert list(records(output)) == [("pfl", 1)]
    env = environment()
    env["PATH"] = f"{tool.parent}{os.pathsep}{env['PATH']}"
    command += ["--slurm", "--sbatch=--time=1"]
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=REPO)
    assert done.returncode == 0, done.stderr
    assert "Submitted batch job 7" in done.stdout and "3 runs" in done.stdout
    program, *said = out.read_text().splitlines()
    assert program == "tools/study.py"
    assert "--array=0,2-3%3" in said and "--time=1" in said
    after = said[said.index("deploy/slurm/train.sbatch") + 1 :]
    assert after[-1] == "--task" and "--slurm" not in after
    assert after[: len(words) - 2].count("--dataset") == 1


@pytest.mark.parametrize("index, words", [("9", "but there are 4 runs"), ("", "should be a run")])
def test_task_outside_the_matrix_is_refused(monkeypatch, index, words):
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", index)
    with pytest.raises(ConfigError, match=words):
        array_index(4)
