"""Errors of the fast path, which a handler reports.

The fast path does not render problem details. It passes the request on to a handler, which admits
the request and then raises the error.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple


class Query(NamedTuple):
    """A MongoDB query of a request, for its trace."""

    operation: str
    seconds: float


class FastPathError(NamedTuple):
    """An error, and the query that raised it."""

    error: Exception
    query: Query | None


# A new handler removes and reports the error, if there is one.
fast_path_errors: ContextVar[list[FastPathError] | None] = ContextVar(
    "fast_path_errors", default=None
)


@contextmanager
def reporting(error: Exception, query: Query | None) -> Iterator[None]:
    """Make the handler that is created in this block report the error."""
    token = fast_path_errors.set([FastPathError(error, query)])
    try:
        yield
    finally:
        fast_path_errors.reset(token)
