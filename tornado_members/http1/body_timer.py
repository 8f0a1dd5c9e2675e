"""Time a request's body: its deadline, and its rate."""

from math import inf

from tornado_members.http1.limits import Limits


class BodyTimer:
    """Times one body. All times are those of the event loop, in seconds."""

    __slots__ = ("_began", "_latest", "_limits", "_received", "_timeout_at")

    def __init__(self, limits: Limits, now: float, timeout: float | None) -> None:
        """`timeout` is the application's limit for the whole body, in seconds."""
        self._limits = limits
        self._began = now
        self._received = 0  # bytes
        self._latest = now + limits.body_seconds  # later with each byte
        self._timeout_at = inf if timeout is None else now + timeout

    def add(self, size: int) -> None:
        """Count `size` bytes that have arrived."""
        self._received += size
        self._latest += size / self._limits.body_bytes_per_second

    def skip(self, seconds: float) -> None:
        """Do not count the time during which the application had paused reading."""
        self._began += seconds
        self._latest += seconds

    def deadline(self, now: float) -> float:
        """Return the time by which more has to arrive."""
        return min(now + self._limits.body_seconds, self._latest, self._timeout_at)

    def rate(self, now: float, settled_seconds: float) -> float | None:
        """Return bytes per second; None before `settled_seconds` have passed."""
        seconds = now - self._began
        return self._received / seconds if seconds >= settled_seconds else None
