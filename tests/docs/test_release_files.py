"""CHANGELOG, CITATION.cff and the version say the same, in the form that readers expect."""

import configparser
import re
import shlex
from datetime import date

import pytest
import yaml
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import libra_umop

SECTIONS = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security", "Known limits"]


@pytest.fixture
def changelog(repo):
    """[(heading of a version, its part of the page)], newest first."""
    parts = re.split(r"^## (.+)\n", (repo / "CHANGELOG.md").read_text(), flags=re.M)
    return list(zip(parts[1::2], parts[2::2], strict=True))


def released(changelog):
    """[(version, date)] of all but what is not released."""
    headings = [heading for heading, _ in changelog[1:]]
    return [re.fullmatch(r"(\d+\.\d+\.\d+) - (\d{4}-\d\d-\d\d)", h).groups() for h in headings]


def test_changelog_has_what_is_not_released_first_then_dated_versions(changelog):
    assert changelog[0][0] == "Unreleased"
    versions = [tuple(map(int, version.split("."))) for version, _ in released(changelog)]
    dates = [date.fromisoformat(day) for _, day in released(changelog)]
    assert versions == sorted(set(versions), reverse=True)
    assert dates == sorted(dates, reverse=True)


def test_every_line_of_the_changelog_stands_under_a_section_of_its_form(changelog):
    for heading, part in changelog:
        before, *sections = re.split(r"^### (.+)\n", part, flags=re.M)
        names, bodies = sections[::2], sections[1::2]
        assert "\n- " not in before, heading
        assert names == [s for s in SECTIONS if s in names], (heading, "order, or named twice")
        for name, body in zip(names, bodies, strict=True):
            blocks = body.strip().split("\n\n")
            assert len(blocks) == 1 and blocks[0].startswith("- "), (heading, name)


def test_the_newest_version_is_that_of_the_package_and_of_the_citation(changelog, repo):
    citation = yaml.safe_load((repo / "CITATION.cff").read_text())
    newest = (citation["version"], citation["date-released"])
    assert released(changelog)[0] == newest and newest[0] == libra_umop.__version__


def test_the_citation_names_the_papers_and_the_licence(repo):
    citation = yaml.safe_load((repo / "CITATION.cff").read_text())
    text = (repo / "README.md").read_text()
    assert citation["cff-version"] == "1.2.0" and citation["license"] == "Apache-2.0"
    assert {"title", "message", "authors", "references"} <= set(citation)
    years = {paper["year"]: paper for paper in citation["references"]}
    assert set(years) == {2019, 2021}
    assert all(paper["url"] in text and paper["authors"] for paper in years.values())


def test_the_line_that_leaves_opencv_alone_names_all_that_is_required(repo):
    setup = configparser.ConfigParser()
    setup.read(repo / "setup.cfg")
    required = [Requirement(x) for x in setup["options"]["install_requires"].split("\n") if x]
    page = (repo / "docs" / "start.md").read_text().replace("\\\n", " ")
    line = next(
        x for x in page.splitlines() if x.startswith("pip install torch torchvision fvcore")
    )
    named = {r.name: r.specifier for r in map(Requirement, shlex.split(line)[2:])}
    wanted = {r.name: r.specifier for r in required if not r.name.startswith("opencv")}
    assert set(named) == set(wanted)
    for name, specifier in wanted.items():  # lower limits are what pip takes anyway
        below = {str(s) for s in specifier if s.operator == "<"}
        assert below <= {str(s) for s in named[name]}, name


def test_every_supported_python_is_named_alike(repo):
    """In the metadata, the set-up, the pins and the tests of each change."""
    setup = configparser.ConfigParser()
    setup.read(repo / "setup.cfg")
    pythons = re.findall(r"Python :: (3\.\d+)", setup["metadata"]["classifiers"])
    allowed = SpecifierSet(setup["options"]["python_requires"])
    assert [f"3.{minor}" for minor in range(30) if f"3.{minor}" in allowed] == pythons
    workflow = yaml.safe_load((repo / ".github" / "workflows" / "ci.yml").read_text())
    assert workflow["jobs"]["test"]["strategy"]["matrix"]["python"] == pythons
    says = f"{pythons[0]} to {pythons[-1]}"
    for name in ("README.md", "Dockerfile", "dev/setup_environment.py", "constraints.txt"):
        assert f"{says}" in (repo / name).read_text(), name
    markers = set(re.findall(r"python_version \S+ .*", (repo / "constraints.txt").read_text()))
    for marker in map(Marker, markers):
        newest = [marker.evaluate({"python_version": python}) for python in pythons[2:]]
        assert len(set(newest)) == 1, marker


def test_commits_are_formatted_by_the_version_that_is_pinned(repo):
    hooks = yaml.safe_load((repo / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    (pinned,) = re.findall(r"^ruff==.*$", (repo / "constraints.txt").read_text(), re.M)
    assert [hook["entry"].split()[:2] for hook in hooks] == [["ruff", "check"], ["ruff", "format"]]
    assert all(hook["additional_dependencies"] == [pinned] for hook in hooks)


def test_the_pip_line_brings_what_make_setup_brings(repo):
    used = re.search(r"^USED := (\S+)$", (repo / "Makefile").read_text(), re.M)[1]
    assert f"pip install -e '.[{used}]'" in (repo / "docs" / "start.md").read_text()
    setup = configparser.ConfigParser()
    setup.read(repo / "setup.cfg")
    extras = set(setup["options.extras_require"]) - {"dev", "wandb"}
    assert set(used.split(",")) == extras
