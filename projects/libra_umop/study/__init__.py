"""Which lever helps on one's own data, by how much, and how sure that is: runs paired by seed."""

from ..utils.lazy import offer

__all__, __getattr__, __dir__ = offer(
    __name__, {"command": "make_one make_runs submit_runs", "answer.files": "write_answer"}
)
