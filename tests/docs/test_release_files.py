"""CHANGELOG, CITATION.cff and the version say the same, in the form that readers expect."""

import re
from datetime import date

import pytest
import yaml

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
