"""Its plots."""
