"""What the supervisor knows of a worker that it has forked."""

import time
from dataclasses import dataclass, field

from tornado_members.serving.channel import Channel


@dataclass(eq=False, slots=True)
class WorkerProcess:
    """A running worker."""

    pid: int
    name: str
    channel: Channel
    generation: int  # of its settings
    started_at: float = field(default_factory=time.monotonic)
    is_ready: bool = False
    failure: str = ""  # why it could not start
    kill_at: float | None = None  # time.monotonic(); set when the worker is ordered to stop

    @property
    def is_stopping(self) -> bool:
        """True if the worker was ordered to stop."""
        return self.kill_at is not None
