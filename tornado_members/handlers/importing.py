"""POST /members/import: members from a file, and the result of each row as it is known."""

import asyncio
from contextlib import suppress
from typing import Final
from urllib.parse import quote

from tornado.web import stream_request_body

from tornado_members.bulk.decoding import find_encoding
from tornado_members.bulk.dry_run import DryRunDirectory
from tornado_members.bulk.import_job import ImportJob
from tornado_members.bulk.loader import Loader
from tornado_members.bulk.member_file import read_members
from tornado_members.bulk.options import FileInfo
from tornado_members.bulk.results import ResultWriter
from tornado_members.bulk.sources import ByteQueue
from tornado_members.errors import (
    BodyTooLarge,
    EncodedBody,
    Problem,
    UnsupportedMediaType,
)
from tornado_members.handlers.import_query import IMPORT_MEMBERS, ImportQuery
from tornado_members.handlers.member_resource import MemberResourceHandler
from tornado_members.http.body_limit import MAX_DISCARDED, announced_length, leave_body_unread
from tornado_members.http.content_type import parse_content_type
from tornado_members.http.spool import Spool
from tornado_members.http.spool_budget import SpoolAccount
from tornado_members.http.streaming import ReaderGone, StreamedAnswer
from tornado_members.openapi.operation import NDJSON
from tornado_members.services import Services

# Time that a sender has to reach its end, and to read, after the import was aborted.
_LINGER_SECONDS: Final = 5


@stream_request_body
class ImportHandler(MemberResourceHandler):
    """/members/import"""

    route = "/members/import"
    operations = {"POST": IMPORT_MEMBERS}
    has_deadline = False  # its body may take as long as it likes

    _info: FileInfo
    _answer: StreamedAnswer
    _spool: Spool
    _account: SpoolAccount
    _dry_run: DryRunDirectory | None = None
    _importing: ImportJob | None = None  # None if the body is discarded
    _overseeing: asyncio.Task[None] | None = None
    _received = 0  # bytes
    _unwanted = 0  # bytes that were discarded
    _limit = 0  # bytes
    _is_refused = False

    def initialize(self, services: Services) -> None:
        super().initialize(services)
        self._no_more = asyncio.Event()  # of the body
        self._may_answer = asyncio.Event()

    async def prepare(self) -> None:
        """Refuse a faulty request before its body is read."""
        try:
            await super().prepare()
            # on_connection_close() has ended the request of a client that disconnected meanwhile.
            if self.request.method == "POST" and not self.client_disconnected:
                self._begin()
        except Problem as problem:
            if self.client_disconnected or not self._sends_anyway():
                leave_body_unread(self.request)
                raise
            self._refuse(problem)

    def _begin(self) -> None:
        query = ImportQuery(self.request.query_arguments, self.services.fields)
        options = query.file_options(*self._check_type())
        rules = self.services.rules
        if not query.answers_after_body:
            self._may_answer.set()
        self._limit = rules.import_max_mib * 1024 * 1024
        if announced_length(self.request.headers) > self._limit:
            raise BodyTooLarge(self._limit)
        directory = self.services.directory
        self._info = FileInfo()
        self._answer = StreamedAnswer(self, rules.import_unread_seconds)
        caller = self.caller
        owner = (caller.issuer, caller.subject) if caller else None
        self._account = account = self.services.spool_budget.open_account(owner)
        self._dry_run = DryRunDirectory(directory, account.reserve) if query.dry_run else None
        self._spool = Spool(self._send, account, self._demand_reading)
        source = ByteQueue()
        self._importing = ImportJob(
            source,
            read_members(source, options, self._info, limit=self._limit, reserve=account.reserve),
            Loader(self._dry_run or directory, query.on_conflict, self.actor()),
            ResultWriter(
                self._info,
                failures_only=query.failures_only,
                rejects_of=options if query.returns_rejects else None,
                base_path=self.services.base_path,
            ),
            self._spool.put,
            retry_seconds=rules.transfer_retry_seconds,
        )
        self._overseeing = asyncio.create_task(self._oversee(self._importing))
        self.set_header("Content-Type", NDJSON)
        self.set_header("Cache-Control", "no-store")

    def _check_type(self) -> tuple[str, str | None]:
        """Return the media type of the body and its encoding, if the client declares one.

        Raises UnsupportedMediaType.
        """
        headers = self.request.headers
        if headers.get("Content-Encoding", "identity").lower() != "identity":
            raise EncodedBody
        taken = [*IMPORT_MEMBERS.body.content] if IMPORT_MEMBERS.body else []
        found = parse_content_type(headers.get("Content-Type", ""))
        if found is None or found.media_type not in taken:
            raise UnsupportedMediaType(taken, accept_header="Accept-Post")
        encoding = find_encoding(found.charset)
        if encoding is None:
            raise UnsupportedMediaType(taken, accept_header="Accept-Post")
        is_declared = "charset" in headers.get("Content-Type", "").lower()
        return found.media_type, encoding if is_declared else None

    async def data_received(self, chunk: bytes) -> None:
        """Read rows from a piece of the body; the next piece is read when this returns."""
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
        except Problem as problem:
            await self._forget(importing)
            self._refuse(problem)

    async def post(self) -> None:
        """Load the rest, and complete the response."""
        self._no_more.set()
        if self._importing is None:
            if not self.response_finished:
                self.finish()
            return
        self._demand_reading()
        try:
            await self._importing.end()
        except Problem:
            await self._forget(self._importing)
            raise
        if self._overseeing:
            await self._overseeing

    # Other methods were refused in prepare(), but their bodies have to be read as well.
    get = head = put = patch = delete = post

    def on_connection_close(self) -> None:
        """Complete the batch in progress after a disconnect, and begin no other."""
        super().on_connection_close()
        self._no_more.set()
        if self._importing is not None:
            self._importing.abandon()
        elif not self.response_finished:
            self.finish()

    async def _oversee(self, importing: ImportJob) -> None:
        """Wait for the last row, and complete or abort the response."""
        try:
            await importing.ended()
            if self._is_refused:
                return
            self._may_answer.set()
            await self._spool.drain()
            failure = self._spool.failure or importing.failure
            if self.client_disconnected:
                self._answer.break_off(ReaderGone("the client has disconnected"))
            elif failure:
                if not self._spool.failure:
                    await self._linger()
                self._answer.break_off(failure)
            else:
                self._set_file_headers()
                self._answer.end()
        finally:
            await self._spool.close()
            self._account.close()
            if self._dry_run:
                self._dry_run.close()

    async def _linger(self) -> None:
        """Wait for a client that still sends: closing now could lose what it has not read."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_SECONDS):
                await self._no_more.wait()

    async def _forget(self, importing: ImportJob) -> None:
        """Discard a job that has loaded nothing."""
        self._importing = None
        self._is_refused = True
        importing.abandon()
        if self._overseeing:
            await self._overseeing

    async def _send(self, results: bytes) -> None:
        await self._may_answer.wait()
        if not self.response_started:
            self._set_file_headers()
        try:
            await self._answer.send(results)
        except ReaderGone:
            if self._importing:
                self._importing.abandon()
            raise

    def _demand_reading(self) -> None:
        """Begin to answer, and give the client less time to read: it no longer only sends.

        That is so at the end of the body, and when the results exceed their budget.
        """
        self._may_answer.set()
        self._answer.set_patience(self.services.write_seconds)

    def _set_file_headers(self) -> None:
        """Report where the header is, and which columns are ignored."""
        if self._info.header_line > 1:
            self.set_header("X-Header-Line", str(self._info.header_line))
        if ignored := self._info.ignored:
            shown = [quote(heading[:40], errors="replace") for heading in ignored[:20]]
            more = [f"and%20{len(ignored) - 20}%20more"] if len(ignored) > 20 else []
            self.set_header("X-Ignored-Columns", ", ".join([*shown, *more]))

    def _sends_anyway(self) -> bool:
        """True if the client sends the body in any case, and it is short enough to be read."""
        headers = self.request.headers
        return "Expect" not in headers and announced_length(headers) <= MAX_DISCARDED

    def _refuse(self, problem: Problem) -> None:
        """Respond at once; the body is still read, because most clients read afterwards."""
        self.log_exception(type(problem), problem, None)
        self.clear()
        text = self.render_problem(problem)
        self.set_header("Content-Length", str(len(text)))
        self.write(text)
        self.flush()
