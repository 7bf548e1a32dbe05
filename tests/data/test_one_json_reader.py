"""JSON that people bring is read in one place, which knows byte order marks and encodings."""

import ast

# What these read was written by this project, or is no file.
OWN = {
    "libra_umop/data/coco/document.py": "the one reader",
    "libra_umop/data/coco/repairs.py": "a text within an annotation",
    "libra_umop/imbalance/records.py": "the collector's own files",
    "libra_umop/study/records.py": "the study's own files",
    "libra_umop/study/run.py": "what the evaluation of its run wrote",
    "libra_umop/imbalance/report/run.py": "lines of metrics.json",
}


def readers_of_json(path):
    """Whether a module calls json.load or json.loads."""
    calls = [n.func for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
    return any(
        isinstance(f, ast.Attribute)
        and f.attr in ("load", "loads")
        and isinstance(f.value, ast.Name)
        and f.value.id == "json"
        for f in calls
    )


def test_nothing_else_reads_json(repo):
    projects = repo / "projects"
    found = {
        str(path.relative_to(projects)) for path in projects.rglob("*.py") if readers_of_json(path)
    }
    assert found == set(OWN)


def test_no_tool_reads_json_of_its_own(repo):
    tools = [repo / "train_net.py", *(repo / "tools").glob("*.py")]
    assert not [path.name for path in tools if readers_of_json(path)]
