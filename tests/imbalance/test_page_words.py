"""The words of the report's page."""

import pytest

from libra_umop.levers import LEVERS

REASON = "plotly is not installed (extra plots)"
describe = pytest.importorskip("libra_umop.imbalance.report.report", reason=REASON).describe


def test_a_runs_line_has_commas_between_its_parts_only():
    measured = {"detector": "ATSS", "levers": list(LEVERS), "AP": {}, "collection": None}
    assert "," not in describe(measured) and describe(measured).startswith("ATSS with ")
    measured.update(levers=[], AP={"AP": 76.22}, collection={"steps": 36})
    assert describe(measured) == "ATSS, 76.2 AP, 36 steps measured"
