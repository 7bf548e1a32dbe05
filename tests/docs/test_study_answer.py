"""The study's tables follow from its JSON, and its JSON from scipy."""

import json
import math
import re

import pytest

from testing.scripts import load_script


@pytest.fixture
def script():
    return load_script("dev/study_answer.py")


def test_tables_are_those_of_the_json(script):
    for path, table in ((script.README, script.short_table()), (script.LOG, script.full_table())):
        page = path.read_text()
        assert script.render(page, table) == page, "run dev/study_answer.py"


def test_every_difference_is_that_of_the_runs_and_every_interval_scipys(script):
    stats = pytest.importorskip("scipy.stats", reason="scipy, of the extra 'study'")
    compared = 0
    for file in script.STUDIES.glob("*/results.json"):
        for data in json.loads(file.read_text())["datasets"].values():
            base, *variants = data["variants"]
            for variant in variants:
                ours, theirs = variant["metrics"]["AP"], base["metrics"]["AP"]["by_seed"]
                pairs = [(ap, theirs[seed]) for seed, ap in ours["by_seed"].items()]
                if len(pairs) < 2:
                    continue
                test = stats.ttest_rel(*zip(*pairs, strict=True))
                low, high = test.confidence_interval(0.95)
                found = ours["difference"]
                assert (found["low"], found["high"]) == pytest.approx((low, high))
                assert math.isclose(found["p"], test.pvalue, rel_tol=1e-6)
                assert found["verdict"].startswith("not") == (test.pvalue > 0.05)
                compared += 1
    assert compared == 20


def test_an_interval_that_other_documents_name_stands_in_the_log(script, repo):
    log = script.LOG.read_text()
    for page in (repo / "README.md", repo / "BENCHMARKS.md", *(repo / "docs").glob("*.md")):
        for interval in re.findall(
            r"[+-]\d\.\d\d \[[+-]\d\.\d\d, [+-]\d\.\d\d\]", page.read_text()
        ):
            assert interval in log, (page.name, interval)


def test_libra_over_both_sets_is_scipys_interval_of_its_ten_pairs(script):
    stats = pytest.importorskip("scipy.stats", reason="scipy, of the extra 'study'")
    libra = [r for r in script.rows() if r.variant["name"] == "libra" and r.is_decisive]
    pairs = [difference for row in libra for difference in row.difference["by_seed"].values()]
    low, high = stats.ttest_1samp(pairs, 0).confidence_interval(0.95)
    said = f"{sum(pairs) / len(pairs):+.2f} [{low:+.2f}, {high:+.2f}]"
    assert len(pairs) == 10
    assert said in script.README.read_text() and said in script.LOG.read_text()
