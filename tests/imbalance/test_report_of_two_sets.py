"""Runs on data of different classes are refused in a line; they ended in an IndexError."""

import pytest

pytest.importorskip("plotly", reason="plotly is not installed (extra plots)")


def run_on(name, labels):
    return {"name": name, "detections": {"confusion": {"labels": labels}}}


def test_runs_on_other_classes_do_not_compare():
    from libra_umop.imbalance.report.report import require_same_classes

    one, two = run_on("cells", ["RBC", "WBC"]), run_on("fish", ["shark"])
    require_same_classes([one, run_on("again", ["RBC", "WBC"]), {"name": "x", "detections": None}])
    with pytest.raises(ValueError, match="fish .* cells"):
        require_same_classes([one, two])
