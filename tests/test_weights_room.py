"""One room loads weights: what others wrote is read there, and nowhere else can it run."""

import ast

import pytest

ROOM = "projects/libra_umop/utils/safe_load.py"  # opens files
# Detectron2's, reading through the room.
CHECKPOINTER = "projects/libra_umop/training/checkpoint/checkpointer.py"
PICKLES = ("pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal")
LOADERS = (
    *("torch.load", "torch.hub.load", "torch.hub.load_state_dict_from_url"),
    *("torch.utils.model_zoo.load_url", "torch.package.PackageImporter", "pandas.read_pickle"),
    *("load_state_dict_from_url", "load_state_dict_from_hf", "load_file"),
)
CHECKPOINTERS = ("DetectionCheckpointer", "Checkpointer")


def sources(repo):
    """Every source but the tests, by its path."""
    rooms = ("projects", "tools", "dev", "benchmarks", "examples", "deploy", "study")
    files = [*repo.glob("*.py"), *(f for room in rooms for f in (repo / room).rglob("*.py"))]
    return {file.relative_to(repo).as_posix(): file.read_text() for file in files}


def loads_in(text):
    """Names of what ``text`` imports or uses that could load weights from a file."""
    found, renamed = set(), {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                renamed[alias.asname or alias.name.split(".")[0]] = (
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
                found |= {alias.name} if alias.name.split(".")[0] in PICKLES else set()
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                renamed[alias.asname or alias.name] = name
                if node.module.split(".")[0] in PICKLES or name in LOADERS:
                    found.add(name)
                if alias.name in CHECKPOINTERS or alias.name in LOADERS:
                    found.add(alias.name)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute):
            first, _, rest = ast.unparse(node).partition(".")
            name = f"{renamed.get(first, first)}.{rest}"
            found |= {name} if name in LOADERS or node.attr in CHECKPOINTERS else set()
        elif isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "weights_only"):
            value = getattr(node.value, "value", None)
            if value is not (node.arg == "weights_only"):
                found.add(f"{node.arg}={value}")
    return found


def test_no_other_module_can_load_weights(repo):
    found = {path: loads_in(text) for path, text in sources(repo).items()}
    assert len(found) > 100
    allowed = {CHECKPOINTER: {"DetectionCheckpointer"}}
    others = {p: names - allowed.get(p, set()) for p, names in found.items() if p != ROOM}
    assert {path: names for path, names in others.items() if names} == {}
    assert {"torch.load", "pickle", "load_file"} <= found[ROOM], "the search finds what is there"


@pytest.mark.parametrize(
    "text",
    [
        "import torch\ntorch.load(f)",
        "import torch as t\nt.load(f)",
        "from torch import load as read\nread(f)",
        "import pickle",
        "from pickle import loads",
        "import torch\ntorch.hub.load_state_dict_from_url(u)",
        "from detectron2.checkpoint import DetectionCheckpointer as C\nC(m)",
        "import detectron2.checkpoint as c\nc.DetectionCheckpointer(m)",
        "import numpy as np\nnp.load(f, allow_pickle=True)",
        "from safetensors.torch import load_file",
    ],
)
def test_the_search_finds(text):
    assert loads_in(text)
    assert not loads_in("import json, torch\njson.load(f); torch.jit.load(f); print(weights_only)")
