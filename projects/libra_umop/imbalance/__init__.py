"""Measuring the imbalance of a run and of data, and saying what it means."""

from ..utils.lazy import offer

__all__, __getattr__, __dir__ = offer(
    __name__,
    {
        "probes.collector": "ImbalanceCollector",
        "report.report": "Report",
        "report.run": "load_runs",
    },
)
