"""What every room may use: files that are whole or absent, safe loading, ranks, random state."""

from .lazy import offer

__all__, __getattr__, __dir__ = offer(
    __name__,
    {
        "atomic_files": "atomic_link atomic_write",
        "output_files": "OutputError check_writable writing",
        "ranks": "agree heard_by_all_ranks sum_over_ranks",
        "rng": "preserved_rng seed_all_rng",
        "safe_load": "safe_safetensors_load safe_torch_load safe_zoo_load",
        "shipped_configs": "find_config shipped_names",
    },
)
