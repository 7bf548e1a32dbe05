"""The site's contents are the Markdown of the repository; the site itself is built by CI."""

import importlib.util
import re
import subprocess
import sys

import pytest
import yaml

from testing.scripts import load_script


@pytest.fixture
def nav(repo):
    """Pages of mkdocs.yml in their order."""

    class Loader(yaml.SafeLoader):
        """Reads past the tags that only MkDocs knows."""

    Loader.add_multi_constructor("", lambda loader, tag, node: None)
    entries = yaml.load((repo / "mkdocs.yml").read_text(), Loader)["nav"]

    def pages(entry):
        if isinstance(entry, str):
            return [entry]
        parts = entry.values() if isinstance(entry, dict) else entry
        return [page for part in parts for page in pages(part)]

    return pages(entries)


def test_every_page_of_docs_is_in_the_contents_once(nav, repo):
    written = {str(p.relative_to(repo / "docs")) for p in (repo / "docs").rglob("*.md")}
    assert written <= set(nav) and len(nav) == len(set(nav))
    elsewhere = {"index.md", "scheduler.md", "MODEL_ZOO.md", "BENCHMARKS.md", "CONTRIBUTING.md"}
    assert set(nav) - written == {*elsewhere, "CHANGELOG.md", "benchmarks/log/README.md"}


def test_getting_started_leads_to_every_page(repo):
    page = (repo / "GETTING_STARTED.md").read_text()
    assert all(f"(docs/{p.name})" in page for p in (repo / "docs").glob("*.md"))


def test_what_a_room_offers_is_on_its_page(repo):
    """By the rooms' own ``__all__``, against what the site finds without importing them."""
    pages = load_script("dev/site_hooks.py").api_pages()
    assert len(pages) > 10
    for path, page in pages.items():
        room = importlib.import_module(path.removeprefix("api/").removesuffix(".md"))
        shown = set(re.findall(r"^::: [\w.]+?\.(\w+)$", page, re.M))
        shown |= set(re.findall(r"^\[`(\w+)`\]", page, re.M))
        offered = {name: getattr(room, name) for name in room.__all__}
        own = {n for n, x in offered.items() if "libra_umop" in getattr(x, "__module__", "")}
        assert own <= shown, (room, own - shown)


@pytest.mark.skipif(not importlib.util.find_spec("mkdocs"), reason="mkdocs (make site) is absent")
def test_the_site_builds_without_a_warning(repo, tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "s"]
    done = subprocess.run(command, cwd=repo, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
