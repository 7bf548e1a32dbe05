"""The rooms of the package: which may import which, and how large a folder may be."""

import ast
import importlib
import re
from collections import Counter, defaultdict
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "projects" / "libra_umop"
# Room -> the rooms that it imports from, in the order in which they stand on each other.
WALLS = {
    "errors": "",
    "levers": "",
    "ranges": "",
    "key": "ranges",
    "functional": "",
    "utils": "errors",
    "modeling": "functional key ranges utils",
    "config": "errors functional key levers modeling ranges utils",
    "data": "config errors modeling utils",
    "evaluation": "data modeling utils",
    "imbalance": "data functional levers modeling utils",
    "training": "config data errors evaluation imbalance modeling utils",
    "inference": "config data errors evaluation modeling training utils",
    "export": "errors inference utils",
    "convert": "config errors modeling training utils",
    "benchmark": "config modeling training utils",
    "study": "config data errors imbalance levers training utils",
    "cli": "benchmark config convert data errors export imbalance inference modeling study training"
    " utils",
    "api": "cli config data errors inference training utils",
}
MOST_FILES = 10
MOST_LINES, MOST_LINES_OF_A_FUNCTION = 300, 60


def imported_names(path: Path):
    """Absolute dotted names, below the package, of what a module imports from it."""
    here = path.relative_to(PACKAGE).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*here[: len(here) - node.level + 1], *(node.module or "").split(".")]
            base = [part for part in base if part]
            yield from [base] if base else [[alias.name] for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("libra_umop."):
            yield node.module.split(".")[1:]
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("libra_umop."):
                    yield alias.name.split(".")[1:]


def arrows():
    """Room -> room -> the modules whose import it is."""
    found = defaultdict(lambda: defaultdict(set))
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts == ("__init__",):  # the front door opens onto every room, when asked
            continue
        for name in imported_names(path):
            if name[0] != parts[0] and not name[0].startswith("__"):
                found[parts[0]][name[0]].add(".".join(parts))
    return found


def test_every_import_is_in_the_table_and_every_row_is_needed():
    allowed = {room: set(others.split()) for room, others in WALLS.items()}
    found = arrows()
    broken = {
        f"{room} -> {other}": sorted(modules)
        for room, others in found.items()
        for other, modules in others.items()
        if other not in allowed.get(room, ())
    }
    assert broken == {}
    assert {room: set(found[room]) for room in allowed} == allowed
    rooms = {p.stem for p in PACKAGE.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
    assert rooms - {"__init__"} == set(allowed)


def test_no_arrow_goes_back_up():
    order = list(TopologicalSorter({k: v.split() for k, v in WALLS.items()}).static_order())
    assert len(order) == len(WALLS)
    rooms = list(WALLS)
    for room, others in WALLS.items():
        assert all(rooms.index(other) < rooms.index(room) for other in others.split()), room


def test_a_folder_is_a_table_of_contents():
    """At most ten files, and no prefix that five of them share: that would be a folder."""
    for folder in [PACKAGE, *(p for p in PACKAGE.rglob("*") if p.is_dir())]:
        names = [p.stem for p in folder.glob("*.py") if p.stem != "__init__"]
        assert len(names) <= MOST_FILES, folder
        prefixes = Counter(name.split("_")[0] for name in names if "_" in name)
        assert all(count < 5 for count in prefixes.values()), (folder, prefixes)


def floors():
    """The rooms by floor from the top: one above the highest room that it imports from."""
    height: dict[str, int] = {}
    for room, others in WALLS.items():
        height[room] = max((height[other] + 1 for other in others.split()), default=0)
    return [
        sorted(room for room in WALLS if height[room] == floor)
        for floor in sorted(set(height.values()), reverse=True)
    ]


def test_the_picture_in_contributing_is_this_table():
    page = (PACKAGE.parents[1] / "CONTRIBUTING.md").read_text()
    picture = page.split("```\n")[1].splitlines()
    rule = next(i for i, line in enumerate(picture) if line.startswith("---"))
    drawn = [sorted(line.split("   ")[0].split()) for line in picture[rule + 1 :]]
    assert drawn == floors()
    table = {line.split("|")[1] for line in page.splitlines() if line.startswith("| `")}
    described = re.findall(r"`(\w+)[/`]", " ".join(table))
    assert sorted(described) == sorted(WALLS)


ROOMS = sorted(path.parent for path in PACKAGE.rglob("__init__.py"))


@pytest.mark.parametrize(
    "room", ROOMS, ids=lambda path: path.relative_to(PACKAGE.parent).as_posix()
)
def test_every_name_that_a_room_offers_is_there(room):
    """Asked for in the room itself, without a look at which module has it."""
    name = ".".join(room.relative_to(PACKAGE.parent).parts)
    module = importlib.import_module(name)
    offered = module.__all__
    assert offered and len(set(offered)) == len(offered)
    for item in offered:
        if not (room / f"{item}.py").is_file():  # the commands are modules
            assert getattr(module, item) is not None and item in dir(module)
    with pytest.raises(AttributeError, match="'nothing'"):
        getattr(module, "nothing")  # noqa: B009


def test_no_name_that_a_room_offers_is_hidden_by_a_module_beside_it():
    for room in ROOMS:
        beside = {path.stem for path in room.iterdir()}
        tree = ast.parse((room / "__init__.py").read_text())
        calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call)]
        for call in (c for c in calls if getattr(c.func, "id", "") == "offer"):
            names = ast.literal_eval(call.args[1])
            assert not beside & {name for value in names.values() for name in value.split()}, room


def test_files_and_functions_are_short():
    """A function's docstring does not count."""
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text()
        assert text.count("\n") <= MOST_LINES, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                words = (ast.get_docstring(node) or "").splitlines()
                lines = node.end_lineno - node.lineno + 1 - len(words)
                assert lines <= MOST_LINES_OF_A_FUNCTION, (path, node.name)


def test_there_is_room_where_contributing_asks_for_a_file():
    """Else who follows it has to move others' files first."""
    page = (PACKAGE.parents[1] / "CONTRIBUTING.md").read_text()
    folders = set(re.findall(r"`([\w/]+)/my_\w+\.py`", page))
    assert {"functional", "modeling/dense", "modeling/dense/losses"} <= folders
    crowded = [f for f in folders if len(list((PACKAGE / f).glob("[!_]*.py"))) >= MOST_FILES]
    assert crowded == []
