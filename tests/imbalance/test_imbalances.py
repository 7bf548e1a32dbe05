"""One more row in the table of imbalances is all that report, text and JSON need to show it."""

import json

import pytest

go = pytest.importorskip("plotly.graph_objects", reason="plotly is not installed (extra plots)")

from libra_umop.imbalance.findings.finding import Finding  # noqa: E402
from libra_umop.imbalance.report import report, sections  # noqa: E402
from libra_umop.imbalance.report.imbalances import IMBALANCES, Imbalance  # noqa: E402
from libra_umop.imbalance.report.page import Card  # noqa: E402
from libra_umop.imbalance.report.run import load_run  # noqa: E402


def find(m):
    text = f"The last loss is {m['last']['loss']:g}."
    return [Finding("last", "large", m["name"], text, pair=("1", "2", "one against two"))]


def cards(measured):
    figure = go.Figure(go.Bar(x=[m["name"] for m in measured], y=[1] * len(measured)))
    return [Card("Last losses", figure, "As logged."), Card("Not measured", None)]


LAST = Imbalance(
    name="last",
    title="The end",
    intro="How it ended.",
    measure=lambda run: {"loss": run.metrics[-1]["total_loss"]},
    find=find,
    cards=cards,
)


def test_a_row_of_the_table_is_measured_told_and_shown(tmp_path, monkeypatch):
    line = {"iteration": 9, "total_loss": 0.25}
    (tmp_path / "metrics.json").write_text(json.dumps(line))
    for module in (report, sections):
        monkeypatch.setattr(module, "IMBALANCES", (*IMBALANCES, LAST))
    whole = report.Report([load_run(tmp_path, "mine")])
    assert "[last, large] The last loss is 0.25." in whole.text()
    assert whole.to_dict()["runs"][0]["last"] == {"loss": 0.25}
    page = whole.html()
    body = page[page.index("<header>") :]
    assert '<a href="#last">The end</a>' in body and '<section id="last">' in body
    assert '<a class="tile large" href="#last">' in body and "one against two" in body
    assert "How it ended." in body and "As logged." in body and "Not measured" not in body
    assert body.count("Plotly.newPlot(") == 2  # that of the row, and the loss over training


def test_names_of_imbalances_tell_them_apart():
    names = [imbalance.name for imbalance in IMBALANCES]
    assert len(set(names)) == len(names) and "comparison" not in names
