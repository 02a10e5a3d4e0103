"""The one error that people see."""


class SandboxError(Exception):
    """Something that the person at the terminal can act on: the text says what is wrong, where, and what to do."""
