"""Dense detectors and what they share."""
