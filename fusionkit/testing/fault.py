"""What a check says of a component that breaks a rule."""

from __future__ import annotations


class Fault(AssertionError):  # noqa: N818 - it is no error of the suite
    """A component breaks a rule.

    Args:
        check: the rule: the name of the function that checks it.
        message: what is wrong and, where it can be told, what to do.
    """

    def __init__(self, check: str, message: str):
        super().__init__(f"{check}: {message}")
        self.check, self.message = check, message
