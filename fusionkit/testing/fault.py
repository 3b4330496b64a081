"""What a check says of a component that breaks a rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Fault(AssertionError):  # noqa: N818 - it is no error of the suite
    """A component breaks a rule.

    Args:
        check: the rule: the name of the function that checks it.
        message: what is wrong and, where it can be told, what to do.
    """

    def __init__(self, check: str, message: str):
        super().__init__(f"{check}: {message}")
        self.check, self.message = check, message


def hold(check: Callable[[T], None], subject: T, told: str = "") -> None:
    """Hold a component against one rule.

    Args:
        check: the rule.
        subject: the component, and what it is tried with.
        told: what it is tried with, in words; begins the message.

    Raises:
        Fault: it breaks the rule, or fails before that can be said.
    """
    try:
        check(subject)
    except Fault as fault:
        if not told:
            raise
        raise Fault(fault.check, f"{told}: {fault.message}") from fault.__cause__
    except Exception as error:  # a stranger's class may raise anything
        line = next(iter(str(error).strip().splitlines()), "")
        message = f"it fails with {type(error).__name__}: {line}"
        raise Fault(check.__name__, f"{told}: {message}" if told else message) from error
