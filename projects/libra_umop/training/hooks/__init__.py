"""What a run does beside its steps."""
