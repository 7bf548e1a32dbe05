"""The answer out of made-up records: words, notes and what is missing."""

import json
from types import SimpleNamespace

import pytest

from libra_umop.errors import ConfigError
from libra_umop.study.answer.results import as_text, collect
from libra_umop.study.records import write_json, write_record
from libra_umop.study.run import _metrics

REASON = "scipy, of the extra 'study', is not installed"


def made_up(folder, values, device="cpu, 1 threads"):
    """A study of one data set with the AP of each variant and seed."""
    variants = [{"name": name, "title": "", "keys": ""} for name in values]
    seeds = sorted({seed for by_seed in values.values() for seed in by_seed})
    plan = {"config_file": "c.yaml", "opts": [], "datasets": {"d": "d"}, "seeds": seeds}
    write_json(folder / "study.json", {**plan, "variants": variants})
    for name, by_seed in values.items():
        for seed, ap in by_seed.items():
            run = {"status": "done", "metrics": {"bbox/AP": ap}, "device": device}
            run.update(step_seconds=2.0 if name == "a" else 1.0, memory_mib=100.0)
            write_record(folder / "runs" / "d" / name / f"seed_{seed}", run)


def test_words_and_cost_follow_the_records(tmp_path):
    pytest.importorskip("scipy", reason=REASON)
    base = {1: 30.0, 2: 31.0, 3: 32.0}
    made_up(
        tmp_path,
        {
            "baseline": base,
            "a": {s: ap + 2 + 0.01 * s for s, ap in base.items()},
            "b": {s: ap - 2 - 0.01 * s for s, ap in base.items()},
            "c": {1: 33.0, 2: 31.0, 3: 29.0},
            "d": {1: 40.0},
        },
    )
    results = collect(tmp_path)
    rows = {row["name"]: row for row in results["datasets"]["d"]["variants"]}
    words = {name: row["metrics"]["AP"].get("difference", {}) for name, row in rows.items()}
    assert [words[name]["verdict"] for name in "abcd"] == [
        "helps",
        "hurts",
        "not shown",
        "not shown",
    ]
    assert words["d"]["reason"] == "one seed"
    assert rows["a"]["step_ratio"] == 2.0 and rows["a"]["memory_ratio"] == 1.0
    text = as_text(results)
    assert "+2.02 [+2.00, +2.04]" in text and "x 2.00" in text


def test_a_verdict_that_fails_among_all_comparisons_says_so(tmp_path):
    """p is 0.019 alone; counted first among three comparisons it is 0.056."""
    pytest.importorskip("scipy", reason=REASON)
    base = {1: 30.0, 2: 31.0, 3: 32.0}
    lucky = {1: 31.0, 2: 32.2, 3: 33.6}
    nothing = {1: 31.0, 2: 30.0, 3: 32.5}
    made_up(tmp_path / "one", {"baseline": base, "a": lucky})
    assert as_text(collect(tmp_path / "one")).splitlines()[5].endswith("helps")
    made_up(tmp_path / "three", {"baseline": base, "a": lucky, "b": nothing, "c": nothing})
    text = as_text(collect(tmp_path / "three"))
    assert "helps: alone; not among 3 comparisons (Holm's p 0.06)" in text


def test_only_a_verdict_that_stands_is_coloured_and_one_seed_has_no_dot(tmp_path):
    pytest.importorskip("scipy", reason=REASON)
    page = pytest.importorskip("libra_umop.study.answer.page", reason="no plotly")
    base = {1: 30.0, 2: 31.0, 3: 32.0}
    clear = {1: 31.0, 2: 32.01, 3: 33.02}
    lucky = {1: 31.0, 2: 32.2, 3: 33.6}
    made_up(
        tmp_path,
        {"baseline": base, "a": clear, "b": lucky, "c": {**base, 1: 33.0}, "d": {1: 31.0}},
    )
    rows = collect(tmp_path)["datasets"]["d"]["variants"]
    # p 0.019 is the second of three: it counts twice
    assert rows[2]["metrics"]["AP"]["difference"]["p_holm"] == pytest.approx(0.0377, abs=1e-4)
    rows[2]["metrics"]["AP"]["difference"]["reason"] = "alone; not among 9 comparisons"
    dots = {t.y[0]: t.marker.color for t in page.forest(rows).data if t.marker.size == 11}
    green = page.COLOURS["helps"]
    assert dots == {"a (3)": green, "b (3)": page.DARK, "c (3)": page.DARK}


def test_runs_of_a_gpu_are_said_to_have_a_noise_that_pairing_leaves(tmp_path):
    for device in ("cpu, 2 threads", "NVIDIA H100 80GB HBM3"):
        made_up(tmp_path / device, {"baseline": {1: 30.0}}, device)
        is_told = "a run made twice may differ" in as_text(collect(tmp_path / device))
        assert is_told == device.startswith("NVIDIA")


def test_rows_of_different_seeds_are_told_not_to_be_subtracted(tmp_path):
    pytest.importorskip("scipy", reason=REASON)
    base = {1: 30.0, 2: 31.0, 3: 32.0}
    made_up(tmp_path / "same", {"baseline": base, "a": {s: 30.0 for s in base}})
    assert "own seeds" not in as_text(collect(tmp_path / "same"))
    made_up(tmp_path / "fewer", {"baseline": base, "a": {1: 31.5}, "not made yet": {}})
    assert "means over a row's own seeds" in as_text(collect(tmp_path / "fewer"))


@pytest.mark.parametrize(
    "results, detections, words",
    [
        ({}, None, "no validation split with objects"),
        ({"bbox": {"AP": float("nan")}}, [{"score": 0.5}], "have no objects"),
    ],
)
def test_a_run_without_an_ap_says_what_is_missing(tmp_path, results, detections, words):
    (tmp_path / "inference").mkdir()
    (tmp_path / "inference" / "coco_instances_results.json").write_text(json.dumps(detections))
    cfg = SimpleNamespace(OUTPUT_DIR=str(tmp_path), DATASETS=SimpleNamespace(TEST=("d_val",)))
    with pytest.raises(ConfigError, match=words):
        _metrics(cfg, results)
