"""What a look at the cache found of several members, for the fast path and for the handlers."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from tornado_members.lease_cache.protocol import LookUp
from tornado_members.member_entries import Representation

_passed_on: ContextVar[dict[int, LookUp] | None] = ContextVar("_passed_on", default=None)


@dataclass(slots=True)
class CachedMembers:
    """Members by id: those that the cache has, and how others may be read."""

    members: dict[int, Representation] = field(default_factory=dict)
    others: dict[int, LookUp] = field(default_factory=dict)

    @contextmanager
    def passed_on(self, member_id: int) -> Iterator[None]:
        """Let tasks that begin in this block read a member without a second look at the cache."""
        look_up = self.others.get(member_id)
        token = _passed_on.set({} if look_up is None else {member_id: look_up})
        try:
            yield
        finally:
            _passed_on.reset(token)


def take_look_up(member_id: int) -> LookUp | None:
    """Return the look-up of a member that was passed on to this task, once."""
    return (_passed_on.get() or {}).pop(member_id, None)
