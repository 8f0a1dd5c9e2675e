"""A service that stops between the tombstones of a group of writes and its command.

It reads its settings and the new names from standard input, and renames members as one group. It
stops itself (SIGSTOP) before it sends the command. When it is continued, it prints for each member
the version that it has acknowledged, or null.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import PIPE
from typing import Any

from tests.support.members import make_draft
from tests.support.suspension import is_stopped
from tornado_members.errors import Problem
from tornado_members.member_entries import Representation
from tornado_members.services import open_services
from tornado_members.settings import Settings
from tornado_members.storage.member_groups import MemberGroups, Replacement

_ROOT = Path(__file__).parents[2]
_SECONDS = 60.0


class StoppedWriter:
    """The process of the writer."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def until_stopped(self) -> None:
        """Wait until the tombstones are placed, and every thread is stopped."""
        async with asyncio.timeout(_SECONDS):
            while not is_stopped(self._process.pid):
                assert self._process.returncode is None, "the writer has ended"
                await asyncio.sleep(0.005)

    def kill(self) -> None:
        """Kill the process while it is stopped."""
        self._process.kill()

    async def proceed(self) -> Sequence[int | None]:
        """Continue the process; return the versions that it has acknowledged."""
        self._process.send_signal(signal.SIGCONT)
        async with asyncio.timeout(_SECONDS):
            output, _ = await self._process.communicate()
        versions: Sequence[int | None] = json.loads(output)
        return versions


@asynccontextmanager
async def stopped_writer(
    settings: Mapping[str, Any], uri: str, cache: Sequence[str], names: Mapping[int, str]
) -> AsyncIterator[StoppedWriter]:
    """Rename members by another process, which is stopped when the block begins."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.stopped_writer"), stdin=PIPE, stdout=PIPE, cwd=_ROOT
    )
    assert process.stdin
    try:
        process.stdin.write(json.dumps([settings, uri, [*cache], [*names.items()]]).encode())
        process.stdin.write_eof()
        writer = StoppedWriter(process)
        await writer.until_stopped()
        yield writer
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


class _StoppingGroups:
    """Stops this process before the first command of a group."""

    def __init__(self, members: MemberGroups, size: int) -> None:
        self._replace = members.replace
        self._size = size

    async def replace(self, replacements: Sequence[Replacement]) -> Any:
        assert len(replacements) == self._size, "the writes are not one group"
        os.kill(os.getpid(), signal.SIGSTOP)
        return await self._replace(replacements)


async def main() -> None:
    """Rename the members."""
    given, uri, cache, names = json.load(sys.stdin)
    settings = Settings.model_validate(given)
    async with open_services(settings, uri, tuple(cache), tail_changes=False) as services:
        directory = services.directory
        members = directory._replacements._members
        assert members is not None
        members.replace = _StoppingGroups(members, len(names)).replace  # type: ignore[method-assign]
        results = await asyncio.gather(
            *(directory.replace(member_id, make_draft(name=name)) for member_id, name in names),
            return_exceptions=True,
        )
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, Problem):
            raise result
    json.dump(
        [result.version if isinstance(result, Representation) else None for result in results],
        sys.stdout,
    )


if __name__ == "__main__":
    asyncio.run(main())
