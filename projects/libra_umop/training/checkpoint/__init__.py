"""What a run leaves and goes on from."""

from ...utils.lazy import offer

__all__, __getattr__, __dir__ = offer(
    __name__, {"checkpointer": "LibraCheckpointer", "run_content": "read_run"}
)
