"""What looks at a training step and writes what it sees."""
