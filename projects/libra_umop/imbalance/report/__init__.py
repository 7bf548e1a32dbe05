"""The page that shows it."""

from ...utils.lazy import offer

__all__, __getattr__, __dir__ = offer(
    __name__,
    {
        "all_findings": "find_all",
        "report": "Report",
        "imbalances": "IMBALANCES Imbalance",
        "run": "load_runs",
        "page": "Card Cell Section Table render",
    },
)
