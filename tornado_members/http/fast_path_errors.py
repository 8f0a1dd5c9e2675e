"""Errors of the fast path, which a handler reports.

The fast path sends no problem details: the handlers are the only code that does. It passes the
request on, and the handler raises the error after it has admitted the request.
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


_error: ContextVar[list[FastPathError] | None] = ContextVar("_error", default=None)


@contextmanager
def reporting(error: Exception, query: Query | None) -> Iterator[None]:
    """Let the handler that is created in this block report the error."""
    token = _error.set([FastPathError(error, query)])
    try:
        yield
    finally:
        _error.reset(token)


def take_fast_path_error() -> FastPathError | None:
    """Remove and return the error that a new handler has to report.

    It must be removed: the same task creates the handler of the next pipelined request.
    """
    errors = _error.get()
    return errors.pop() if errors else None
