"""Measuring the imbalance of a run and of data, and saying what it means."""
