"""All data loaders of a run are shielded from signals to its process group."""

import ast

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
