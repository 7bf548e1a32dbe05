"""Pure functions over what a run left in OUTPUT_DIR; imports no training code."""
