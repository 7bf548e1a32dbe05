"""All data loaders of a run are shielded from signals to its process group."""

import ast
import subprocess
import sys

from libra_umop.data.shielded_loader import ShieldedDataLoader, build_test_loader
from libra_umop.training.loader import ResumableTrainLoader

UNSHIELDED = {"DataLoader", "build_detection_train_loader", "build_detection_test_loader"}


def test_no_other_module_makes_a_data_loader_of_its_own(repo):
    files = [repo / "train_net.py", *(repo / "projects").rglob("*.py"), *repo.glob("tools/*.py")]
    makers = set()
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                if name in UNSHIELDED:
                    makers.add(path.name)
    assert makers == {"shielded_loader.py"} and len(files) > 50


def test_train_and_test_loaders_are_shielded(monkeypatch):
    made = []
    monkeypatch.setattr(ShieldedDataLoader, "__init__", lambda self, *a, **k: made.append(self))
    monkeypatch.setattr(ShieldedDataLoader, "__iter__", lambda self: iter(()))
    list(ResumableTrainLoader([{}], dict, lambda: [0], batch_size=1, seed=1))

    from detectron2.data import DatasetCatalog

    from libra_umop.config.loading import get_cfg

    cfg = get_cfg()
    DatasetCatalog.register("shielded", lambda: [{"file_name": "a.jpg"}])
    try:
        build_test_loader(cfg, "shielded", dict)
    finally:
        DatasetCatalog.remove("shielded")
    assert len(made) == 2


def test_a_process_ends_with_its_workers_however_python_starts_processes_by_default():
    """Python 3.14 does so from a server; workers that took that for their parent never ended."""
    code = """
import multiprocessing, os
if __name__ == "__main__":
    multiprocessing.set_start_method("forkserver")
    from libra_umop.data.shielded_loader import ShieldedDataLoader
    batches = iter(ShieldedDataLoader(list(range(100)), batch_size=1, num_workers=2))
    print(next(batches), [worker.pid for worker in batches._workers])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.startswith("tensor([0])"), done.stderr
