"""How a command ends other than well."""


class StoppedError(Exception):
    """Ctrl-C; the message says how to go on. Exit code 130."""


class CheckFailedError(Exception):
    """A check found something wrong; the message says what. Exit code 1."""
