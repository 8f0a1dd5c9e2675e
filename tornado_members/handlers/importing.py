"""Members in by the thousand, and what became of each one out, as it goes."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final, cast
from urllib.parse import quote

from tornado.web import stream_request_body

from tornado_members.auth.permissions import WRITE
from tornado_members.bulk.csv_rows import CsvRows
from tornado_members.bulk.dry_run import DryRunDirectory
from tornado_members.bulk.import_job import ImportJob
from tornado_members.bulk.json_rows import JsonRows
from tornado_members.bulk.loader import Loader, OnConflict
from tornado_members.errors import (
    BadParameter,
    BodyTooLarge,
    DependencyUnavailable,
    Problem,
    UnreadableFile,
)
from tornado_members.handlers.member_resource import MemberResourceHandler
from tornado_members.http.body_limit import MAX_DISCARDED, announced_length
from tornado_members.http.request_body import media_type_of
from tornado_members.http.spool import Spool
from tornado_members.http.spool_budget import SpoolAccount
from tornado_members.http.streaming import ReaderGone, StreamedAnswer
from tornado_members.openapi.examples import example_csv
from tornado_members.openapi.operation import CSV, NDJSON, Answer, Body, Operation, Parameter
from tornado_members.openapi.schemas import TEXT_FILE, csv_file
from tornado_members.services import Services

_LONGEST_LINE: Final = 64 * 1024  # bytes, or characters: no member is nearly as long
_ON_CONFLICT: Final[Sequence[OnConflict]] = ("reject", "skip", "replace")
# Seconds that a sender has to come to his end, and to read, when the import was broken off.
_LINGER_SECONDS: Final = 5

IMPORT_MEMBERS: Final = Operation(
    name="importMembers",
    summary="Import members from a CSV or NDJSON file",
    tag="members",
    permission=WRITE,
    query={
        "on_conflict": Parameter(
            "What to do with a row whose name another member has: `reject` it, `skip` it, or "
            "`replace` the fields of that member.",
            {"type": "string", "enum": ["reject", "skip", "replace"], "default": "reject"},
            "skip",
        ),
        "dry_run": Parameter(
            "Report the result of each row without writing anything.",
            {"type": "boolean", "default": False},
            True,
        ),
    },
    body=Body(
        {CSV: csv_file, NDJSON: TEXT_FILE},
        {CSV: example_csv},
        "One member per CSV record, after a header that names the columns, or per NDJSON line. "
        "`memberId`, as in exports, is ignored.",
    ),
    answers={
        200: Answer(
            "The result of each row, one JSON object per line, streamed in the order of the input",
            {NDJSON: TEXT_FILE},
            {NDJSON: '{"line": 2, "status": 201, "code": "created", "member": "/members/42"}\n'},
            headers=("Cache-Control",),
            may_have=("X-Ignored-Columns",),
        )
    },
    problems=(UnreadableFile, DependencyUnavailable),
)


@stream_request_body
class ImportHandler(MemberResourceHandler):
    """/members/import"""

    route = "/members/import"
    operations = {"POST": IMPORT_MEMBERS}
    has_deadline = False  # its body may take as long as it likes

    _rows: CsvRows | JsonRows
    _answer: StreamedAnswer
    _spool: Spool
    _account: SpoolAccount
    _dry_run: DryRunDirectory | None = None
    _importing: ImportJob | None = None  # None where the body is not wanted
    _overseeing: asyncio.Task[None] | None = None
    _received = 0  # bytes
    _unwanted = 0  # bytes that came nevertheless
    _limit = 0  # bytes
    _is_refused = False

    def initialize(self, services: Services) -> None:
        super().initialize(services)
        self._no_more = asyncio.Event()  # of the body

    async def prepare(self) -> None:
        """Whatever can be wrong with the request is told before its body is read."""
        try:
            await super().prepare()
            if self.request.method == "POST":
                self._begin()
        except Problem as problem:
            if not self._sends_anyway():
                raise
            self._refuse(problem)

    def _begin(self) -> None:
        on_conflict, dry_run = _parse_query(self.request.query_arguments)
        media_type = media_type_of(self.request, self.operation)
        rules = self.services.rules
        self._limit = rules.import_max_mib * 1024 * 1024
        if announced_length(self.request.headers) > self._limit:
            raise BodyTooLarge(self._limit)
        if media_type == CSV:
            self._rows = CsvRows(
                longest=_LONGEST_LINE, longest_line=_LONGEST_LINE, fields=self.services.fields
            )
        else:
            self._rows = JsonRows(_LONGEST_LINE, self.services.fields)
        directory = self.services.directory
        self._answer = StreamedAnswer(self, rules.import_unread_seconds)
        caller = self.caller
        owner = (caller.issuer, caller.subject) if caller else None
        self._account = self.services.spool_budget.open_account(owner)
        self._dry_run = DryRunDirectory(directory, self._account.reserve) if dry_run else None
        self._spool = Spool(self._send, self._account, self._demand_reading)
        self._importing = ImportJob(
            self._rows,
            Loader(self._dry_run or directory, on_conflict, self.actor()),
            self._spool.put,
            patience=rules.transfer_retry_seconds,
        )
        self._overseeing = asyncio.create_task(self._oversee(self._importing))
        self.set_header("Content-Type", NDJSON)
        self.set_header("Cache-Control", "no-store")

    async def data_received(self, chunk: bytes) -> None:
        """Until this returns no more is read."""
        importing = self._importing
        if importing is None or not importing.is_running:
            self._unwanted += len(chunk)
            if self._unwanted > MAX_DISCARDED:
                self._no_more.set()
                if importing is None and not self.response_finished:
                    self.finish()
            return
        self._received += len(chunk)
        try:
            if self._received > self._limit:
                await importing.fail(BodyTooLarge(self._limit))
            else:
                await importing.push(chunk)
        except UnreadableFile as error:
            await self._forget(importing)
            self._refuse(error)

    async def post(self) -> None:
        """The body is complete."""
        self._no_more.set()
        if self._importing is None:
            if not self.response_finished:
                self.finish()
            return
        self._demand_reading()
        try:
            await self._importing.end()
        except UnreadableFile:
            await self._forget(self._importing)
            raise
        if self._overseeing:
            await self._overseeing

    # What another method is told was told already; its body had to be read as well.
    get = head = put = patch = delete = post

    def on_connection_close(self) -> None:
        """The client has gone: the batch under way is ended, and nothing else begun."""
        super().on_connection_close()
        self._no_more.set()
        if self._importing is not None:
            self._importing.abandon()
        elif not self.response_finished:
            self.finish()

    async def _oversee(self, importing: ImportJob) -> None:
        """From the first row to the end of the answer, which comes here whatever happens."""
        try:
            await importing.ended()
            if self._is_refused:
                return
            await self._spool.drain()
            failure = self._spool.failure or importing.failure
            if self.client_disconnected:
                self._answer.break_off(ReaderGone("the client has disconnected"))
            elif failure:
                if not self._spool.failure:
                    await self._linger()
                self._answer.break_off(failure)
            else:
                self._tell_columns()
                self._answer.end()
        finally:
            await self._spool.close()
            self._account.close()
            if self._dry_run:
                self._dry_run.close()

    async def _linger(self) -> None:
        """Who still sends may not have read; a closed connection could take the rest from him."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_SECONDS):
                await self._no_more.wait()

    async def _forget(self, importing: ImportJob) -> None:
        """Nothing was loaded, and nothing will be."""
        self._importing = None
        self._is_refused = True
        importing.abandon()
        if self._overseeing:
            await self._overseeing

    async def _send(self, results: bytes) -> None:
        if not self.response_started:
            self._tell_columns()
        try:
            await self._answer.send(results)
        except ReaderGone:
            if self._importing:
                self._importing.abandon()
            raise

    def _demand_reading(self) -> None:
        """From now on the results may not wait for the sender to finish."""
        self._answer.set_patience(self.services.write_seconds)

    def _tell_columns(self) -> None:
        """Columns that are not used are no fault, but nobody should have to find out."""
        if isinstance(self._rows, CsvRows) and (ignored := self._rows.ignored):
            shown = ", ".join(quote(heading[:40]) for heading in ignored[:20])
            self.set_header("X-Ignored-Columns", shown)

    def _sends_anyway(self) -> bool:
        """Whether the body comes whatever is answered now, and is short enough to be read."""
        headers = self.request.headers
        return "Expect" not in headers and announced_length(headers) <= MAX_DISCARDED

    def _refuse(self, problem: Problem) -> None:
        """Answer at once; the body is still read, for who sends it may not read before."""
        self.log_exception(type(problem), problem, None)
        self.clear()
        text = self.render_problem(problem)
        self.set_header("Content-Length", str(len(text)))
        self.write(text)
        self.flush()


def _parse_query(arguments: Mapping[str, Sequence[bytes]]) -> tuple[OnConflict, bool]:
    """What to do with a name that is taken, and whether to do anything. Raises BadParameter."""
    on_conflict = arguments.get("on_conflict", [b"reject"])[0].decode("utf-8", "replace")
    if on_conflict not in _ON_CONFLICT:
        raise BadParameter("on_conflict", f"should be one of {', '.join(_ON_CONFLICT)}")
    dry_run = arguments.get("dry_run", [b"false"])[0]
    if dry_run not in (b"true", b"false"):
        raise BadParameter("dry_run", "should be true or false")
    return cast(OnConflict, on_conflict), dry_run == b"true"
