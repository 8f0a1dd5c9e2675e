"""The stages in which lists are prepared, and the lists that each stage can answer."""

from dataclasses import dataclass
from enum import IntEnum

from tornado_members.errors import ListsBeingPrepared
from tornado_members.model.fields import FieldTable
from tornado_members.model.list_query import Filters


class Stage(IntEnum):
    """A stage of the preparation. Each one includes those before it."""

    NAMED = 0  # the unique index of names exists: lists without a filter, or by name
    INDEXED = 1  # all indexes exist: lists by a field that every writer stores
    FILLED_IN = 2  # all members have folded names and words


@dataclass(slots=True)
class ListReadiness:
    """The stage that this process knows to be reached. It never goes back."""

    stage: Stage = Stage.FILLED_IN

    def require(self, stage: Stage) -> None:
        """Raise ListsBeingPrepared if the stage is not reached."""
        if self.stage < stage:
            raise ListsBeingPrepared


def stage_for(filters: Filters, fields: FieldTable) -> Stage:
    """Return the stage at which a list with these filters is complete."""
    folded = any(field.case_folded and field.name in filters.equal for field in fields)
    if folded or filters.name_prefix is not None or filters.q is not None:
        return Stage.FILLED_IN
    return Stage.INDEXED if filters.equal or filters.attributes else Stage.NAMED


def stage_for_count(filters: Filters, fields: FieldTable) -> Stage:
    """Return the stage at which the members that match can be counted."""
    least = Stage.NAMED if filters.name is not None else Stage.INDEXED
    return max(least, stage_for(filters, fields))
