"""Errors that a user can mend, and how a command line ends on them."""

import functools
import sys


class ConfigError(ValueError):
    """A config file, key or value that cannot be used; the message is one line that says why."""


def exit_code_of(main):
    """Decorate a command's ``main``: what a user can mend is one line on stderr and exit code 2.

    ``ConfigError`` and ``libra_umop.data.errors.DatasetError`` are such errors; every other
    exception keeps its traceback, as it is ours to mend.
    """

    @functools.wraps(main)
    def wrapped(*args, **kwargs):
        try:
            return main(*args, **kwargs)
        except user_errors() as e:
            print(f"{type(e).__name__}: {e}", file=sys.stderr)
            sys.exit(2)

    return wrapped


def user_errors() -> tuple:
    """The exception classes that are printed as one line."""
    try:
        from ..data.errors import DatasetError
    except ModuleNotFoundError:
        return (ConfigError,)
    return ConfigError, DatasetError
