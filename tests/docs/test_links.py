"""Links in the documents lead somewhere: files that exist, headings that are on the page."""

import re
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
FOLDERS = [".github", "benchmarks", "configs", "deploy", "docs", "examples", "projects"]
PAGES = [*REPO.glob("*.md"), *(page for f in FOLDERS for page in (REPO / f).rglob("*.md"))]
FENCED = re.compile(r"^( *)(```|~~~).*?^\1\2", re.M | re.S)
NAMED = re.compile(
    r"(?<![\w./-])((?:benchmarks|configs|deploy|dev|docs|examples|projects|tests|tools)/[\w./*{},-]*[\w*}])"
)
LINK = re.compile(r"\]\(([^()\s]+)(?: \"[^\"]*\")?\)")


def prose(path: Path) -> str:
    """A page without its blocks of code and its code in line."""
    return re.sub(r"`[^`\n]+`", "code", FENCED.sub("", path.read_text()))


def anchors(path: Path) -> set[str]:
    """What a heading's anchor is on GitHub: lower case, words joined by hyphens."""
    text = FENCED.sub("", path.read_text())
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", text, re.M):
        heading = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        anchor = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        copies = [f"{anchor}-{i}" for i in range(1, 50)]
        found.add(next(name for name in [anchor, *copies] if name not in found))
    return found | set(re.findall(r'<a (?:id|name)="([^"]+)"', text))


def broken(page: Path, root: Path) -> list[str]:
    """The links of ``page`` that lead nowhere, or out of ``root``."""
    found = []
    for link in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        known = path.exists() and path.is_relative_to(root)
        if not known or (anchor and path.suffix == ".md" and anchor not in anchors(path)):
            found.append(link)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(REPO)))
def test_every_relative_link_leads_somewhere(page):
    assert broken(page, REPO) == []


def missing(page: Path, root: Path) -> list[str]:
    """Files that code in line names and that are not there; my_... is a reader's."""
    text = FENCED.sub("", page.read_text())
    named = [path for code in re.findall(r"`([^`\n]+)`", text) for path in NAMED.findall(code)]
    patterns = {path: re.sub(r"\{[^}]*\}", "*", path) for path in named if "my_" not in path}
    return [path for path, pattern in patterns.items() if not any(root.glob(pattern))]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(REPO)))
def test_every_file_that_the_text_names_is_there(page):
    assert [path for path in missing(page, REPO) if path != "configs/quick/X.yaml"] == []


def test_a_broken_link_would_be_found(tmp_path):
    (tmp_path / "a.md").write_text("# A b, `c`!\n\n# A b, `c`!\n")
    page = tmp_path / "page.md"
    text = (
        "[x](a.md) [x](a.md#a-b-c-1) [x](a.md#a-b-c-2) [![i](no.png)](b.md) [y](#none)\n"
        "`[z](code.md)`\n\n```\n[w](fenced.md)\n```\n[v](https://example.org)\n"
    )
    page.write_text(text)
    nowhere = ["a.md#a-b-c-2", "no.png", "b.md", "#none"]
    assert broken(page, tmp_path) == nowhere
    page.write_text("`dev/none.py`, `dev/*.sh`, `x/dev/a.py`, `dev/my_own.py`\n")
    assert missing(page, tmp_path) == ["dev/none.py", "dev/*.sh"]
    page.write_text(text)
    assert broken(page, tmp_path / "other") == ["a.md", "a.md#a-b-c-1", *nowhere]
