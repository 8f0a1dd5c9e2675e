"""The operations of the stores: each has a deadline, is counted, and is measured.

`translate_outages` decorates a method of a store, which then is such an operation.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import wraps
from time import perf_counter
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import pymongo
from pymongo import monitoring
from pymongo.errors import OperationFailure, PyMongoError

from tornado_members.errors import DependencyUnavailable
from tornado_members.storage.outages import is_outage
from tornado_members.storage.write_window import WriteHeldUp, window_seconds
from tornado_members.telemetry.metrics import Histogram

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(slots=True)
class OperationCounts:
    """Durations and failures of the stores' operations in this process."""

    times: dict[str, Histogram] = field(default_factory=dict)  # by operation
    # By operation, and unavailable, refused or held-up.
    failures: Counter[tuple[str, str]] = field(default_factory=Counter)
    listener: Callable[[str, float], None] | None = None  # the tracer, if there are traces

    def record(self, operation: str, seconds: float) -> None:
        """Count an operation that succeeded or failed."""
        times = self.times.get(operation)
        if times is None:
            times = self.times[operation] = Histogram()
        self.notify(operation, seconds)
        times.observe(seconds)

    def notify(self, operation: str, seconds: float) -> None:
        """Report an operation to the trace of the request that waits for it, if there is one."""
        if self.listener is not None:
            self.listener(operation, seconds)


class OperationWaits:
    """The waits of a client's operations until their first command is sent."""

    def __init__(self) -> None:
        self._since: dict[object, float] = {}  # time.monotonic(), of the waiting operations
        self._last = 0.0  # seconds that the operation waited which was sent last

    @property
    def recent(self) -> float:
        """The wait of the operation that was sent last, in seconds; 0 if none waits now.

        While MongoDB is unavailable, no operation is sent, and this does not grow.
        """
        return self._last if self._since else 0.0

    def begin(self, operation: object) -> None:
        """Note that an operation waits from now on."""
        self._since[operation] = time.monotonic()

    def sent(self, operation: object) -> None:
        """Note the first command of an operation. Threads of the driver call this, too."""
        if (since := self._since.pop(operation, None)) is not None:
            self._last = time.monotonic() - since

    def end(self, operation: object) -> None:
        """Do not measure an operation any more: it has ended, or waits for something else."""
        self._since.pop(operation, None)


_current: ContextVar[tuple[OperationWaits, object] | None] = ContextVar("_current", default=None)


def ignore_wait() -> None:
    """Do not measure the operation of this context: it waits for other operations of its member."""
    if current := _current.get():
        waits, operation = current
        waits.end(operation)


class SendingListener(monitoring.CommandListener):
    """Ends the wait of an operation when its first command is sent.

    Both drivers call `started` in the context of the operation, as WindowGuard explains.
    """

    def started(self, _event: monitoring.CommandStartedEvent) -> None:
        """End the wait."""
        if current := _current.get():
            waits, operation = current
            waits.sent(operation)

    def succeeded(self, _event: monitoring.CommandSucceededEvent) -> None:
        """Do nothing."""

    def failed(self, _event: monitoring.CommandFailedEvent) -> None:
        """Do nothing."""


class _Client(Protocol):
    """The part of Mongo that an operation needs."""

    @property
    def timeout(self) -> float: ...
    @property
    def deadline(self) -> float: ...
    @property
    def may_cancel(self) -> bool: ...
    @property
    def operations(self) -> OperationCounts: ...
    @property
    def waits(self) -> OperationWaits: ...
    def shielded(self, operation: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, T]: ...


class _Store(Protocol):
    @property
    def mongo(self) -> _Client: ...


S = TypeVar("S", bound=_Store)


def translate_outages(
    method: Callable[Concatenate[S, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """Decorate a store's method: raise DependencyUnavailable when MongoDB is unavailable.

    The method gets a deadline, and `OperationCounts` records it under its qualified name, such as
    MemberStore.insert.
    """
    operation = method.__qualname__.replace("._", ".")

    @wraps(method)
    async def wrapper(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        counts = self.mongo.operations
        began = perf_counter()
        try:
            return await _with_deadline(self.mongo, method(self, *args, **kwargs))
        except TimeoutError as error:
            counts.failures[operation, "unavailable"] += 1
            raise DependencyUnavailable from error
        except WriteHeldUp:
            counts.failures[operation, "held-up"] += 1
            raise DependencyUnavailable("The write was held up for too long.") from None
        except DependencyUnavailable:
            counts.failures[operation, "unavailable"] += 1
            raise
        except PyMongoError as error:
            is_unavailable = is_outage(error)
            counts.failures[operation, "unavailable" if is_unavailable else "refused"] += 1
            if is_unavailable and isinstance(error, OperationFailure):
                raise DependencyUnavailable("The database cannot do this now.") from error
            if is_unavailable:
                raise DependencyUnavailable from error
            raise
        finally:
            counts.record(operation, perf_counter() - began)

    return wrapper


async def _with_deadline(mongo: _Client, operation: Coroutine[Any, Any, T]) -> T:
    """Await an operation until its deadline. Raises TimeoutError, and WriteHeldUp.

    The driver's deadline begins here and is absolute: it sends no command after `timeout`, nor
    after the end of the write window, however long the operation waits for one of Motor's threads.
    There are five threads per core; while MongoDB hangs, all other operations wait. (The client's
    own timeoutMS begins when an operation has a thread.)

    An operation that may be cancelled is cancelled at `deadline`. Any other ends by itself.
    """
    waiting = object()
    mongo.waits.begin(waiting)
    token = _current.set((mongo.waits, waiting))
    try:
        left, seconds_left = mongo.timeout, window_seconds.get()
        if seconds_left is not None:
            left = min(left, seconds_left())
        if left <= 0:
            operation.close()
            raise WriteHeldUp
        with pymongo.timeout(left):
            if not mongo.may_cancel:
                operation = mongo.shielded(operation)
            async with asyncio.timeout(mongo.deadline):
                return await operation
    finally:
        _current.reset(token)
        mongo.waits.end(waiting)
