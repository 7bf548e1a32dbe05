"""Two-stage detectors: proposals, samplers, heads and their losses."""
