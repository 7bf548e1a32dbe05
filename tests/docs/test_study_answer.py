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
    assert compared == 33


def test_an_interval_that_other_documents_name_stands_in_the_log(script, repo):
    log = script.LOG.read_text()
    for page in (repo / "README.md", repo / "BENCHMARKS.md", *(repo / "docs").glob("*.md")):
        for interval in re.findall(
            r"[+-]\d\.\d\d \[[+-]\d\.\d\d, [+-]\d\.\d\d\]", page.read_text()
        ):
            assert interval in log, (page.name, interval)


def pooled(script, lever, other="baseline", seeds=range(1, 11)):
    """Differences of AP of all comparisons with enough seeds, pair by pair."""
    pairs = []
    for row in filter(lambda row: row.is_decisive, script.rows()):
        if row.variant["name"] != lever:
            continue
        ap = {
            r.variant["name"]: r.variant["metrics"]["AP"]["by_seed"]
            for r in script.rows()
            if r[:3] == row[:3]
        }
        both = [str(seed) for seed in seeds if str(seed) in ap[lever] and str(seed) in ap[other]]
        pairs += [ap[lever][seed] - ap[other][seed] for seed in both]
    return pairs


@pytest.mark.parametrize(
    ("how", "number", "pages"),
    [
        ({"lever": "libra", "seeds": range(1, 6)}, 10, ["LOG"]),
        ({"lever": "libra", "seeds": range(6, 11)}, 10, ["README", "LOG"]),
        ({"lever": "libra"}, 20, ["LOG"]),
        ({"lever": "pfl_lrp"}, 20, ["README", "LOG"]),
        ({"lever": "pfl_lrp_mean"}, 15, ["LOG"]),
        ({"lever": "pfl_lrp_mean", "other": "pfl_lrp"}, 15, ["LOG"]),
    ],
)
def test_an_interval_over_more_than_one_set_is_scipys_of_its_pairs(script, how, number, pages):
    stats = pytest.importorskip("scipy.stats", reason="scipy, of the extra 'study'")
    pairs = pooled(script, **how)
    low, high = stats.ttest_1samp(pairs, 0).confidence_interval(0.95)
    said = f"{sum(pairs) / len(pairs):+.2f} [{low:+.2f}, {high:+.2f}]"
    assert len(pairs) == number
    assert all(said in getattr(script, page).read_text() for page in pages), said
