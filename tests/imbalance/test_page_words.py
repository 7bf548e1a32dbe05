"""The words of the report's page."""

from libra_umop.imbalance.report.page import _describe
from libra_umop.levers import LEVERS


def test_a_runs_line_has_commas_between_its_parts_only():
    measured = {"detector": "ATSS", "levers": list(LEVERS), "AP": {}, "collection": None}
    assert "," not in _describe(measured) and _describe(measured).startswith("ATSS with ")
    measured.update(levers=[], AP={"AP": 76.22}, collection={"steps": 36})
    assert _describe(measured) == "ATSS, 76.2 AP, 36 steps measured"
