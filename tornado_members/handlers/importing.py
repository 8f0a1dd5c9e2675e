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
from tornado_members.http.body_limit import MAX_DISCARDED, leave_body_unread
from tornado_members.http.content_type import parse_content_type
from tornado_members.http.routed_application import announced_length
from tornado_members.http.spool import Spool
from tornado_members.http.spool_budget import SpoolAccount
from tornado_members.http.streaming import ClientGone, StreamedResponse
from tornado_members.openapi.operation import NDJSON
from tornado_members.services import Services

# Time for a client to finish sending after the import was aborted, so that it reads the response.
_LINGER_SECONDS: Final = 5


@stream_request_body
class ImportHandler(MemberResourceHandler):
    """/members/import"""

    route = "/members/import"
    operations = {"POST": IMPORT_MEMBERS}
    has_deadline = False  # its body may take any time

    _info: FileInfo
    _response: StreamedResponse
    _spool: Spool
    _account: SpoolAccount
    _dry_run: DryRunDirectory | None = None
    _job: ImportJob | None = None  # None if the body is discarded
    _completing: asyncio.Task[None] | None = None
    _received = 0  # bytes
    _discarded = 0  # bytes
    _limit = 0  # bytes
    _is_refused = False

    def initialize(self, services: Services) -> None:
        super().initialize(services)
        self._body_ended = asyncio.Event()  # or will not be read further
        self._may_respond = asyncio.Event()

    async def prepare(self) -> None:
        """Refuse an invalid request before its body is read."""
        try:
            await super().prepare()
            # on_connection_close() has ended the request of a client that disconnected meanwhile.
            if self.request.method == "POST" and not self.client_disconnected:
                self._begin()
        except Problem as problem:
            if self.client_disconnected or not self._sends_body_anyway():
                leave_body_unread(self.request)
                raise
            self._refuse(problem)

    def _begin(self) -> None:
        query = ImportQuery(self.request.query_arguments, self.services.fields)
        options = query.file_options(*self._check_type())
        rules = self.services.rules
        if not query.responds_after_body:
            self._may_respond.set()
        self._limit = rules.import_max_mib * 1024 * 1024
        if announced_length(self.request.headers) > self._limit:
            raise BodyTooLarge(self._limit)
        directory = self.services.directory
        self._info = FileInfo()
        self._response = StreamedResponse(self, rules.import_unread_seconds)
        caller = self.caller
        owner = (caller.issuer, caller.subject) if caller else None
        self._account = account = self.services.spool_budget.open_account(owner)
        self._dry_run = DryRunDirectory(directory, account.reserve) if query.dry_run else None
        self._spool = Spool(self._send, account, self._expect_reading)
        source = ByteQueue()
        self._job = ImportJob(
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
        self._completing = asyncio.create_task(self._complete(self._job))
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
        job = self._job
        if job is None or not job.is_running:
            self._discarded += len(chunk)
            if self._discarded > MAX_DISCARDED:
                self._body_ended.set()
                if job is None and not self.response_finished:
                    self.finish()
            return
        self._received += len(chunk)
        try:
            if self._received > self._limit:
                await job.fail(BodyTooLarge(self._limit))
            else:
                await job.push(chunk)
        except Problem as problem:
            await self._discard_job(job)
            self._refuse(problem)

    async def post(self) -> None:
        """Load the rest, and complete the response."""
        self._body_ended.set()
        if self._job is None:
            if not self.response_finished:
                self.finish()
            return
        self._expect_reading()
        try:
            await self._job.end()
        except Problem:
            await self._discard_job(self._job)
            raise
        if self._completing:
            await self._completing

    # Other methods were refused in prepare(), but their bodies have to be read as well.
    get = head = put = patch = delete = post

    def on_connection_close(self) -> None:
        """Complete the batch in progress after a disconnect, and begin no other."""
        super().on_connection_close()
        self._body_ended.set()
        if self._job is not None:
            self._job.abandon()
        elif not self.response_finished:
            self.finish()

    async def _complete(self, job: ImportJob) -> None:
        """Wait for the last row, and complete or abort the response."""
        try:
            await job.ended()
            if self._is_refused:
                return
            self._may_respond.set()
            await self._spool.drain()
            failure = self._spool.failure or job.failure
            if self.client_disconnected:
                self._response.abort(ClientGone("the client has disconnected"))
            elif failure:
                if not self._spool.failure:
                    await self._linger()
                self._response.abort(failure)
            else:
                self._set_file_headers()
                self._response.end()
        finally:
            await self._spool.close()
            self._account.close()
            if self._dry_run:
                self._dry_run.close()

    async def _linger(self) -> None:
        """Wait for a client that is still sending: closing now could lose the response."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_SECONDS):
                await self._body_ended.wait()

    async def _discard_job(self, job: ImportJob) -> None:
        """Discard a job that has loaded nothing."""
        self._job = None
        self._is_refused = True
        job.abandon()
        if self._completing:
            await self._completing

    async def _send(self, results: bytes) -> None:
        await self._may_respond.wait()
        if not self.response_started:
            self._set_file_headers()
        try:
            await self._response.send(results)
        except ClientGone:
            if self._job:
                self._job.abandon()
            raise

    def _expect_reading(self) -> None:
        """Begin to respond, and allow the client less time to read.

        Called at the end of the body, and when the results exceed their budget.
        """
        self._may_respond.set()
        self._response.set_timeout(self.services.write_seconds)

    def _set_file_headers(self) -> None:
        """Report the line of the header, and the ignored columns."""
        if self._info.header_line > 1:
            self.set_header("X-Header-Line", str(self._info.header_line))
        if ignored := self._info.ignored:
            shown = [quote(heading[:40], errors="replace") for heading in ignored[:20]]
            more = [f"and%20{len(ignored) - 20}%20more"] if len(ignored) > 20 else []
            self.set_header("X-Ignored-Columns", ", ".join([*shown, *more]))

    def _sends_body_anyway(self) -> bool:
        """True if the client sends the body without waiting, and it is short enough to be read."""
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
