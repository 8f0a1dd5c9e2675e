"""Errors that the fast path found, and that a handler reports.

The fast path sends no problem, so that each has one place in the code. It passes the request on,
and the handler raises the error after it has admitted the request.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple


class Query(NamedTuple):
    """A query of MongoDB that was made for a request, as its trace shows it."""

    operation: str
    seconds: float


class FoundError(NamedTuple):
    """An error, and the query that found it."""

    error: Exception
    query: Query | None


_found: ContextVar[list[FoundError] | None] = ContextVar("_found", default=None)


@contextmanager
def reporting(error: Exception, query: Query | None) -> Iterator[None]:
    """Let the handler that is created in this block report the error."""
    token = _found.set([FoundError(error, query)])
    try:
        yield
    finally:
        _found.reset(token)


def take_found_error() -> FoundError | None:
    """Return the error that a new handler has to report, once.

    Its task keeps the list, and creates the handler of the next request of a pipeline.
    """
    found = _found.get()
    return found.pop() if found else None
