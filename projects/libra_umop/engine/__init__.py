"""Training: configs, trainer, hooks, checkpoints and launching."""
