"""What a step costs: drawn-up inputs, steps in turns, and the tables made of their times."""

STEPS = ("train_step", "inference")
