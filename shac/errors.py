"""Errors that are for people: the command line prints them as one line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Something that the caller gave is wrong; the message says what, where, and what to do about it."""


class NonFiniteError(ArithmeticError):
    """A quantity of the training became infinite or NaN; the message says where that began."""


class LostRankError(Exception):
    """Another process of a distributed training has ended."""


def nearest(name: str, candidates: Iterable[str]) -> str:
    """The part of a message that helps with a misspelt name: what it may have meant, or all there is."""
    candidates = sorted(candidates)
    close = difflib.get_close_matches(name, candidates, n=3, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"there are: {', '.join(candidates)}"
