"""The study's tables follow from its JSON, and its JSON from scipy."""

import json
import math

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
