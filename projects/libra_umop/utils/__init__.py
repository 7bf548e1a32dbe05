"""What every room may use: files that are whole or absent, safe loading, ranks, random state."""
