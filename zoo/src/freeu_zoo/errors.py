"""The one error type a user of the zoo sees."""


class ZooError(RuntimeError):
    """Something the user can put right (a missing program, a damaged file, a wrong recipe); the message says how."""
