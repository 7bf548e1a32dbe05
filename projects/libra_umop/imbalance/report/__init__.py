"""The page that shows it."""
