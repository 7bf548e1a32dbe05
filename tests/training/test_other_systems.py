"""Training and prediction ask for nothing that macOS or Windows lack, as far as Linux can tell.

Neither system is here. What their Python leaves out is taken away from this one's, once the
libraries are loaded, and workers are started as they are there: anew, with nothing inherited.
"""

import subprocess
import sys

import pytest

LACKING = {
    "darwin": ["signal.sigwaitinfo", "signal.sigtimedwait", "os.sched_getaffinity"],
    "win32": [
        *("signal.SIGUSR1", "signal.SIGUSR2", "signal.SIGHUP", "signal.SIGKILL"),
        *("signal.pthread_sigmask", "signal.sigwait", "signal.sigwaitinfo"),
        *("os.fork", "os.getuid", "os.sched_getaffinity", "os.killpg", "os.setsid"),
        *("fcntl", "resource", "termios"),
    ],
}
PROGRAM = """
import multiprocessing, os, signal, sys, types
from multiprocessing import resource_tracker
import detectron2.engine, detectron2.model_zoo, torch, torchvision

def leave_out(names):
    for module, _, name in (n.partition(".") for n in names):
        if name:
            delattr(sys.modules[module], name)
        else:
            sys.modules[module] = None

WORKERS, *NAMES = sys.argv[1:]
leave_out(NAMES)
resource_tracker._HAVE_SIGMASK = False  # Linux's own way of starting workers, which would ask

if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    import libra_umop
    from libra_umop.data import shielded_loader

    shielded_loader.sys = types.SimpleNamespace(platform="neither")
    keys = {"SOLVER.IMS_PER_BATCH": 2, "MODEL.DEVICE": "cpu", "INPUT.MIN_SIZE_TRAIN": (64,)}
    keys |= {"INPUT.MIN_SIZE_TEST": 64, "DATALOADER.NUM_WORKERS": WORKERS}
    config = "quick/umop_atss_R_18_FPN_shapes.yaml"
    run = libra_umop.train(dataset="shapes", config=config, epochs=1, keys=keys)
    found = libra_umop.predict(run, "shapes/images/val*", threshold=0.0)
    print("predicted on", len(found), "after", run.results["bbox"]["AP"])
"""


@pytest.mark.parametrize("system, workers", [("darwin", "1"), ("win32", "0")])
def test_a_run_needs_nothing_that_the_system_lacks(repo, tmp_path, system, workers):
    from libra_umop.data.shapes import write_shapes

    write_shapes(tmp_path / "shapes", num_train=4, num_val=2, size=64, seed=0)
    (tmp_path / "program.py").write_text(PROGRAM)
    words = ["program.py", workers, *LACKING[system]]
    done = subprocess.run(
        [sys.executable, *words], cwd=tmp_path, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "predicted on 2 after" in done.stdout and "Traceback" not in done.stderr, done.stderr
