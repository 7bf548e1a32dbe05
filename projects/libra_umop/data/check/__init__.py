"""Looking at data before training on it."""
