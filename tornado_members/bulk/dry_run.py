"""A directory for dry runs: it returns what the real one would, and writes nothing."""

from collections.abc import Callable, Sequence

from tornado_members.directory import MemberDirectory
from tornado_members.errors import Overloaded
from tornado_members.model.history import Actor
from tornado_members.model.member import Member, MemberDraft

_ROW_OVERHEAD = 32  # bytes of a row in the database, without the name


class DryRunDirectory:
    """Replaces the MemberDirectory of a loader.

    New names are kept in a temporary database on disk, so that memory is bounded. Their members
    have ids below zero, which no client sees.
    """

    def __init__(self, directory: MemberDirectory, reserve: Callable[[int], bool]) -> None:
        """`reserve` grants bytes of temporary files, or returns False."""
        import sqlite3  # noqa: PLC0415  # only dry runs and workbooks need it

        self._directory = directory
        self._reserve = reserve
        self._names = sqlite3.connect("", isolation_level=None)  # deleted when it is closed
        self._names.execute("PRAGMA journal_mode = OFF")
        self._names.execute("CREATE TABLE names (name TEXT PRIMARY KEY, id INTEGER) WITHOUT ROWID")
        self._last = 0

    def close(self) -> None:
        """Delete the temporary database."""
        self._names.close()

    async def find_by_names(self, names: Sequence[str]) -> dict[str, Member | None]:
        """Return the members that exist, and those that the real run would have created."""
        parameters = ",".join("?" * len(names))
        query = f"SELECT name, id FROM names WHERE name IN ({parameters})"  # noqa: S608  # only "?"
        found = {
            name: Member(member_id, {"name": name}, version=1)
            for name, member_id in self._names.execute(query, tuple(names))
        }
        return {**await self._directory.find_by_names(names), **found}

    async def take_ids(self, count: int) -> int:
        """Reserve ids below zero; return the first."""
        self._last -= count
        return self._last

    async def create_many(
        self,
        drafts: Sequence[MemberDraft],
        first: int,
        *,
        by: Actor | None,  # noqa: ARG002  # as MemberDirectory
    ) -> Sequence[Member | None]:
        """Store the names. Raises Overloaded without space for temporary files."""
        size = sum(len(draft.name.encode()) + _ROW_OVERHEAD for draft in drafts)
        if not self._reserve(size):
            raise Overloaded
        members = [Member.from_draft(first + i, draft) for i, draft in enumerate(drafts)]
        self._names.execute("BEGIN")
        self._names.executemany(
            "INSERT INTO names VALUES (?, ?)", [(m.name, m.member_id) for m in members]
        )
        self._names.execute("COMMIT")
        return members

    async def replace_if_unchanged(
        self,
        member: Member,  # noqa: ARG002  # as MemberDirectory
        draft: MemberDraft,  # noqa: ARG002  # as MemberDirectory
        *,
        by: Actor | None,  # noqa: ARG002  # as MemberDirectory
    ) -> bool:
        """Write nothing, and report success."""
        return True
