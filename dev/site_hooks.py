"""What makes a site of the Markdown as it lies in the repository; MkDocs calls it (mkdocs.yml).

Pages outside of docs/ become pages of the site, links between files become links between pages,
and every room of the package gets a page of what it offers, from its docstrings.
"""

import ast
import os
import re
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
PACKAGE = REPO / "projects" / "libra_umop"
# A file of the repository -> its page.
PAGES = {
    "README.md": "index.md",
    "deploy/README.md": "scheduler.md",
    **{name: name for name in ("MODEL_ZOO.md", "BENCHMARKS.md", "CONTRIBUTING.md", "CHANGELOG.md")},
    **{f"benchmarks/log/{p.name}": f"benchmarks/log/{p.name}"
       for p in (REPO / "benchmarks" / "log").glob("*.md")},
}  # fmt: skip
# Of a room, its docstring alone: what it offers follows.
ITSELF = "{members: false, show_root_heading: false, show_root_toc_entry: false}"
FENCED = re.compile(r"(^ *```.*?^ *```$)", re.M | re.S)
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")


def offered_by(path: Path) -> list[str]:
    """Full names of what a room's ``__init__`` offers, by its text alone: nothing is imported."""
    room = ".".join(path.parent.relative_to(PACKAGE.parent).parts)
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module:
            public = [a.name for a in node.names if not (a.asname or a.name).startswith("_")]
            names += [f"{room}.{node.module}.{name}" for name in public]
        elif isinstance(node, ast.Dict) and all(isinstance(v, ast.Constant) for v in node.values):
            for key, value in zip(node.keys, node.values, strict=True):
                names += [f"{room}.{key.value}.{name}" for name in value.value.split()]
    return [full for name in dict.fromkeys(names) if (full := defined_as(name))]


def defined_as(name: str) -> str:
    """Where a name is defined, through the folders that pass it on; "" if by another library."""
    module, _, name = name.rpartition(".")
    path = PACKAGE.parent.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    for node in ast.parse(path.read_text()).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if name in [getattr(node, "name", None), *(getattr(t, "id", None) for t in targets)]:
            return f"{module}.{name}"
        is_door = isinstance(node, ast.ImportFrom) and node.level == 1 and node.module
        if is_door and name in [alias.name for alias in node.names]:
            folder = module if path.name == "__init__.py" else module.rpartition(".")[0]
            return defined_as(f"{folder}.{node.module}.{name}")
    return ""


def api_pages() -> dict[str, str]:
    """Page -> its Markdown: the front door, then each room that offers something."""
    rooms = {path.parent.name: path for path in sorted(PACKAGE.glob("*/__init__.py"))}
    offered = {room: names for room, path in rooms.items() if (names := offered_by(path))}
    page_of = {name: room for room, names in offered.items() for name in names}
    pages = {}
    for room in ["", *offered]:
        title = f"libra_umop.{room}".rstrip(".")
        parts = [f"# {title}", f"::: {title}\n    options: {ITSELF}"]
        for name in offered_by(PACKAGE / room / "__init__.py"):
            home = page_of.get(name, room)
            link = f"[`{name.rpartition('.')[2]}`](libra_umop.{home}.md#{name})"
            parts.append(f"::: {name}" if home == room else f"{link} of `libra_umop.{home}`")
        pages[f"api/{title}.md"] = "\n\n".join(parts) + "\n"
    return pages


def on_config(config):
    """Add the pages of the rooms, and those of the log, to the reference."""
    reference = next(entry["Reference"] for entry in config.nav if "Reference" in entry)
    reference.insert(1, {"Python": list(api_pages())})
    log = reference.index("benchmarks/log/README.md")
    others = sorted(page for page in PAGES.values() if page.startswith("benchmarks/log/"))
    reference[log] = {"Log": others}
    return config


def on_files(files, config):
    """Add what lies outside of docs/."""
    from mkdocs.structure.files import File  # not at the top: the tests have no MkDocs

    generated = {page: (REPO / source).read_text() for source, page in PAGES.items()}
    for page, content in {**generated, **api_pages()}.items():
        files.append(File.generated(config, page, content=content))
    return files


def on_page_markdown(markdown, page, config, files):
    """Let links lead to pages; to a file of the repository only where its address is known."""
    source = next((s for s, p in PAGES.items() if p == page.file.src_uri), None)
    source = source or f"docs/{page.file.src_uri}"
    here = os.path.dirname(page.file.src_uri)

    def moved(match):
        image, text, link = match.groups()
        target, hash_, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link) or not target:
            return match[0]
        path = os.path.normpath(os.path.join(os.path.dirname(source), target))
        inside = path.removeprefix("docs/") if path.startswith("docs/") else PAGES.get(path)
        if inside:
            return f"{image}[{text}]({os.path.relpath(inside, here or '.')}{hash_}{anchor})"
        url = config.repo_url and f"{config.repo_url.rstrip('/')}/blob/main/{path}"
        return f"[{text}]({url})" if url else text

    parts = FENCED.split(markdown)
    return "".join(p if i % 2 else LINK.sub(moved, p) for i, p in enumerate(parts))
