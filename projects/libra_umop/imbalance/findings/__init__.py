"""What the numbers mean in words, and which lever to try."""
