"""The launcher that schedulers start: exit codes and signals pass through it."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

WORKER = """
import os, pathlib, signal, sys, time

folder, how = pathlib.Path(sys.argv[1]), sys.argv[2]
rank = os.environ["RANK"]

def stop(signum, frame):
    (folder / f"stopped_{rank}").write_text(signal.Signals(signum).name)
    sys.exit(75)

signal.signal(signal.SIGUSR1, stop)
signal.signal(signal.SIGTERM, stop)
(folder / f"started_{rank}").touch()
if how == "wait":
    time.sleep(600)
elif int(how) < 0:
    os.kill(os.getpid(), -int(how))
sys.exit(int(how))
"""


@pytest.fixture
def worker(tmp_path):
    path = tmp_path / "worker.py"
    path.write_text(WORKER)
    return path


def test_exit_code_is_the_failed_workers_own(repo, tmp_path, worker):
    """Where torchrun would end with 1 each time. One process for all, as torch's import is slow."""
    program = (
        "import json, sys, elastic_launch\n"
        "args = ['--nproc-per-node', '1', '--master-port', '0', *sys.argv[1:3]]\n"
        "codes = [elastic_launch.main([*args, how]) for how in sys.argv[3:]]\n"
        "print('codes', json.dumps(codes))"
    )
    command = [sys.executable, "-c", program, str(worker), str(tmp_path), "0", "2", "75", "-9"]
    env = {**os.environ, "PYTHONPATH": str(repo / "deploy"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    codes = [line for line in done.stdout.splitlines() if line.startswith("codes")]
    assert json.loads(codes[0].removeprefix("codes")) == [0, 2, 75, 128 + 9]


@pytest.mark.parametrize("name", ["SIGUSR1", "SIGTERM"])
def test_signal_reaches_every_worker_and_the_exit_code_says_preempted(repo, tmp_path, worker, name):
    launcher = [sys.executable, str(repo / "deploy" / "elastic_launch.py")]
    command = [*launcher, "--nproc-per-node", "2", "--master-port", "0", worker, tmp_path, "wait"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 240
    while len(list(tmp_path.glob("started_*"))) < 2:
        assert process.poll() is None and time.monotonic() < deadline, "the workers did not start"
        time.sleep(0.05)
    process.send_signal(signal.Signals[name])
    stderr = process.communicate(timeout=240)[1]
    assert process.returncode == 75, stderr
    assert {(tmp_path / f"stopped_{rank}").read_text() for rank in (0, 1)} == {name}
    assert f"stopped by {name}" in stderr
