"""Numbers out of what the probes wrote."""
