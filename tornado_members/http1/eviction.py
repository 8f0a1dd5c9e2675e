"""Choose the connections to end when connections or memory are short: idle, then slow ones."""

import heapq
from collections.abc import Callable, Collection, Iterable

from tornado_members.http1.budget import ByteBudget
from tornado_members.http1.connection import Connection
from tornado_members.http1.refusals import TooManyBodies

_SETTLED_SECONDS = 1.0  # a client that has been waited for a shorter time may be about to act
_MOST_EVICTED = 16  # at once
_SLOW_BYTES_PER_SECOND = 16 * 1024  # a faster client keeps its connection

Rate = Callable[[Connection], float | None]


def close_idle(connections: Collection[Connection], now: float, most: int = _MOST_EVICTED) -> bool:
    """Close the connections that have been idle for longest; return False if none is idle."""
    settled = now - _SETTLED_SECONDS
    idle = [connection for connection in connections if connection.idle_since < settled]
    for connection in heapq.nsmallest(most, idle, key=lambda candidate: candidate.idle_since):
        connection.close()
    return bool(idle)


def evict_slowest(
    connections: Iterable[Connection], now: float, evict: Callable[[Connection], None]
) -> None:
    """Evict the connections whose clients send or read most slowly."""
    slowest = _slowest_first(connections, lambda connection: connection.rate(now, _SETTLED_SECONDS))
    for rate, connection in slowest[:_MOST_EVICTED]:
        if rate < _SLOW_BYTES_PER_SECOND:
            evict(connection)


def refuse_slow_bodies(connections: Iterable[Connection], now: float, budget: ByteBudget) -> None:
    """Refuse the bodies that arrive most slowly, until an eighth of the budget is free."""
    slowest = _slowest_first(
        connections, lambda connection: connection.body_rate(now, _SETTLED_SECONDS)
    )
    for _, connection in slowest:
        if _has_room(budget):
            return
        connection.refuse(TooManyBodies())


def abort_slow_readers(connections: Iterable[Connection], now: float, budget: ByteBudget) -> None:
    """Close the connections that read most slowly, until an eighth of the budget is free."""
    slowest = _slowest_first(
        connections, lambda connection: connection.writer.rate(now, _SETTLED_SECONDS)
    )
    for _, connection in slowest:
        if _has_room(budget):
            return
        connection.abort_slow_reader()


def _slowest_first(
    connections: Iterable[Connection], rate_of: Rate
) -> list[tuple[float, Connection]]:
    rates = [
        (rate, connection)
        for connection in connections
        if (rate := rate_of(connection)) is not None
    ]
    return sorted(rates, key=lambda pair: pair[0])


def _has_room(budget: ByteBudget) -> bool:
    return budget.used <= budget.limit * 7 // 8
