"""What the runs of a study show: tables, a page, and how sure it is."""

from ...utils.lazy import offer

__all__, __getattr__, __dir__ = offer(__name__, {"files": "write_answer", "results": "collect"})
