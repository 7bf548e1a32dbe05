"""deploy/slurm/train.sbatch with stand-ins for Slurm's commands; dev/try_slurm.sh has real ones."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

PATIENCE_S = 120  # a second on an idle machine
STAND_INS = {
    "scontrol": """
        case "$1 $2" in
            "show hostnames") printf 'n1\\nn2\\n' ;;
            "show node") echo "   NodeAddr=10.0.0.1 NodeHostName=n1 Version=22" ;;
            "show job") echo "   JobState=$STATE Reason=None" ;;
            *) echo "$*" >>"$FOLDER/scontrol.args" ;;
        esac""",
    "srun": """
        trap 'touch "$FOLDER/signalled"; exit 75' USR1
        printf '%s\\n' "$@" >"$FOLDER/srun.args"
        for _ in $(seq $((${SECONDS_TO_RUN:-0} * 20))); do sleep 0.05; done
        exit "${CODE:-75}" """,
}


@pytest.fixture
def job(repo, tmp_path):
    """Starts the batch script as Slurm would; keyword arguments become environment variables."""
    for name, body in STAND_INS.items():
        path = tmp_path / name
        path.write_text(f"#!/usr/bin/env bash\n{body}\n")
        path.chmod(0o755)

    def start(*args, cwd=repo, **variables):
        env = {
            **os.environ,
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "FOLDER": str(tmp_path),
            "STATE": "RUNNING",
            "SLURM_JOB_ID": "7",
            "SLURM_JOB_NODELIST": "n[1-2]",
            "SLURM_JOB_NUM_NODES": "2",
            **variables,
        }
        command = ["bash", str(repo / "deploy" / "slurm" / "train.sbatch"), *args]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(command, cwd=cwd, env=env, **pipes)

    return start


def requeued(tmp_path):
    path = tmp_path / "scontrol.args"
    return path.exists() and path.read_text() == "requeue 7\n"


def test_preempted_job_is_requeued(job, tmp_path):
    process = job(CODE="75")
    assert process.wait(PATIENCE_S) == 75
    assert requeued(tmp_path)


def test_cancelled_job_is_not_requeued(job, tmp_path):
    process = job(CODE="75", STATE="COMPLETING")
    assert process.wait(PATIENCE_S) == 75
    assert not requeued(tmp_path)


@pytest.mark.parametrize("code", [0, 1, 2, 137])
def test_every_other_exit_code_is_the_jobs_own(job, tmp_path, code):
    process = job(CODE=str(code))
    assert process.wait(PATIENCE_S) == code
    assert not requeued(tmp_path)


@pytest.mark.parametrize("name", ["SIGUSR1", "SIGTERM"])
def test_signal_before_the_time_limit_is_handed_to_srun_as_sigusr1(job, tmp_path, name):
    process = job(SECONDS_TO_RUN=str(2 * PATIENCE_S), CODE="0")
    deadline = time.monotonic() + PATIENCE_S
    while not (tmp_path / "srun.args").exists():
        assert time.monotonic() < deadline, "srun was not started"
        time.sleep(0.05)
    process.send_signal(signal.Signals[name])
    assert process.wait(PATIENCE_S) == 75
    assert (tmp_path / "signalled").exists()
    assert requeued(tmp_path)


def test_resume_is_passed_from_the_second_start_on(job, tmp_path):
    options = ["--config-file", "a b.yaml", "OUTPUT_DIR", "/runs"]
    job(*options, CODE="0").wait(PATIENCE_S)
    first = (tmp_path / "srun.args").read_text().splitlines()
    assert first[first.index("train_net.py") + 1 :] == options
    job(*options, CODE="0", SLURM_RESTART_COUNT="1").wait(PATIENCE_S)
    second = (tmp_path / "srun.args").read_text().splitlines()
    assert second[second.index("train_net.py") + 1 :] == ["--resume", *options]


def test_torchrun_gets_the_allocation(job, tmp_path):
    from torch.distributed.run import parse_args

    job(CODE="0", SLURM_GPUS_ON_NODE="4", SLURM_RESTART_COUNT="3").wait(PATIENCE_S)
    command = (tmp_path / "srun.args").read_text().splitlines()
    args = parse_args(command[command.index("deploy/elastic_launch.py") + 1 :])
    assert (args.nnodes, args.nproc_per_node) == ("2", "4")
    assert (args.rdzv_backend, args.rdzv_endpoint) == ("c10d", "10.0.0.1:20007")
    assert args.rdzv_id == "7.3"  # a late process of the last start cannot join this one


def test_says_where_to_submit_from(job, tmp_path):
    process = job(cwd=tmp_path)
    assert "submit from the repository's root" in process.communicate(timeout=PATIENCE_S)[0]
    assert process.returncode == 2


def test_trial_on_a_real_slurm_says_what_is_missing(repo, tmp_path):
    for tool in ("bash", "dirname", "env"):
        os.symlink(shutil.which(tool), tmp_path / tool)
    # The directories that it adds itself are not searched: PATH ends in what it is given here.
    env = {"PATH": str(tmp_path), "PYTHON": sys.executable, "SYSTEM_PATH": ""}
    done = subprocess.run(
        [str(repo / "dev" / "try_slurm.sh")],
        env=env,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 3
    assert done.stderr == "skipped: munged is not installed (apt-get install slurm-wlm munge)\n"
