"""The methods as pure functions and small modules: torch only, one idea a file."""
