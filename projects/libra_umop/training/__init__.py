"""A run: the trainer, its step, its data, its checkpoints and hooks."""
