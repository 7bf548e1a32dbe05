"""Every claim of BENCHMARKS is in the log that it names: figure, command and page."""

import re

import pytest


def section(text, anchor):
    """The part of a page below the heading of ``anchor``; the page without one."""
    if not anchor:
        return text
    parts = re.split(r"^(?=#{1,6} )", text, flags=re.M)
    names = [re.sub(r"[^\w\- ]", "", p.splitlines()[0].lstrip("# ").lower()) for p in parts[1:]]
    return parts[1 + [name.replace(" ", "-") for name in names].index(anchor)]


@pytest.fixture
def claims(repo):
    """[(claim, figure, where, command, link)] of the table that the page begins with."""
    rows = [line for line in (repo / "BENCHMARKS.md").read_text().splitlines() if line[:2] == "| "]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[1:]]


def test_every_figure_and_command_of_a_claim_stands_in_its_log(claims, repo):
    assert len(claims) > 15
    for claim, figure, where, command, link in claims:
        page, anchor = re.search(r"\((.+?\.md)#?(.*?)\)$", link).groups()
        log = section((repo / page).read_text(), anchor)
        figures = re.findall(r"\*\*(.+?)\*\*", figure)
        assert figures and where in ("CPU", "H100"), claim
        for number in figures:
            assert re.search(rf"(?<![\d.]){re.escape(number)}(?!\d)", log), (claim, number)
        assert command.strip("`") in (repo / page).read_text(), (claim, command)


def test_every_page_of_the_log_is_listed_and_backs_a_claim(claims, repo):
    folder = repo / "benchmarks" / "log"
    pages = {path.name for path in folder.glob("*.md")} - {"README.md"}
    listed = set(re.findall(r"\]\((\w+\.md)\)", (folder / "README.md").read_text()))
    claimed = {re.search(r"log/(\w+\.md)", row[-1])[1] for row in claims}
    assert pages == listed == claimed
