"""POST /members/import: members from a file, and the result of each row as it is known."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final, cast
from urllib.parse import quote

from tornado.web import stream_request_body

from tornado_members.auth.permissions import WRITE
from tornado_members.bulk.decoding import find_encoding
from tornado_members.bulk.dry_run import DryRunDirectory
from tornado_members.bulk.header import is_delimiter
from tornado_members.bulk.import_job import ImportJob
from tornado_members.bulk.loader import Loader, OnConflict
from tornado_members.bulk.mapping import parse_column, repeated_field
from tornado_members.bulk.member_file import read_members
from tornado_members.bulk.options import FileInfo, FileOptions
from tornado_members.bulk.results import ResultWriter
from tornado_members.bulk.sources import ByteQueue
from tornado_members.errors import (
    BadParameter,
    BodyTooLarge,
    DependencyUnavailable,
    EncodedBody,
    Overloaded,
    Problem,
    UnreadableFile,
    UnsupportedMediaType,
)
from tornado_members.handlers.member_resource import MemberResourceHandler
from tornado_members.http.body_limit import MAX_DISCARDED, announced_length, leave_body_unread
from tornado_members.http.content_type import parse_content_type
from tornado_members.http.spool import Spool
from tornado_members.http.spool_budget import SpoolAccount
from tornado_members.http.streaming import ReaderGone, StreamedAnswer
from tornado_members.model.fields import FieldTable
from tornado_members.openapi.examples import example_csv
from tornado_members.openapi.operation import CSV, JSON, NDJSON, Answer, Body, Operation, Parameter
from tornado_members.openapi.schemas import TEXT_FILE, csv_file
from tornado_members.services import Services

_XLSX: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
_BINARY_FILE: Final = {"type": "string", "contentMediaType": "application/octet-stream"}
_ON_CONFLICT: Final[Sequence[OnConflict]] = ("reject", "skip", "replace")
_MOST_COLUMNS: Final = 20  # values of the parameter `column`
# Time that a sender has to reach its end, and to read, after the import was aborted.
_LINGER_SECONDS: Final = 5

IMPORT_MEMBERS: Final = Operation(
    name="importMembers",
    summary="Import members from a file",
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
        "results": Parameter(
            "Write the result of every row, or of refused rows only. The summary always follows.",
            {"type": "string", "enum": ["all", "failures"], "default": "all"},
            "failures",
        ),
        "column": Parameter(
            "A field, and the heading or the number of the column that holds it: "
            "`email=E-mail Address`, `name=#3`. May be repeated; columns of the name are joined.",
            {"type": "array", "items": {"type": "string", "maxLength": 300}, "maxItems": 20},
            ["name=Full name"],
            is_repeatable=True,
        ),
        "encoding": Parameter(
            "The character encoding, such as `windows-1252`. It has the same effect as `charset` "
            "in the Content-Type.",
            {"type": "string", "maxLength": 40, "default": "utf-8"},
            "windows-1252",
        ),
        "delimiter": Parameter(
            "The character between the cells of a CSV file, or `tab`. It is detected by default.",
            {"type": "string", "minLength": 1, "maxLength": 3},
            ";",
        ),
        "header_line": Parameter(
            "The number of the line that names the columns. It is detected by default.",
            {"type": "integer", "minimum": 1, "maximum": 1000},
            4,
        ),
        "sheet": Parameter(
            "The name or number of a worksheet; the first one by default.",
            {"type": "string", "maxLength": 100},
            "Members",
        ),
        "strict": Parameter(
            "Refuse columns and fields that are not a member's, instead of ignoring them.",
            {"type": "boolean", "default": False},
            True,
        ),
        "take_suspicious": Parameter(
            "Load a last row that looks like a total, instead of refusing it.",
            {"type": "boolean", "default": False},
            True,
        ),
    },
    body=Body(
        {
            CSV: csv_file,
            NDJSON: TEXT_FILE,
            JSON: {"type": "array", "items": {"type": "object"}},
            "text/vcard": TEXT_FILE,
            "text/x-ldif": TEXT_FILE,
            _XLSX: _BINARY_FILE,
            "application/gzip": _BINARY_FILE,
        },
        {CSV: example_csv},
        "One member per CSV record, after a header that names the columns, per NDJSON line, per "
        "element of an array, per card, entry or row of a worksheet. The content shows the format. "
        "`memberId`, as in exports, is ignored.",
    ),
    answers={
        200: Answer(
            "The result of each row, one JSON object per line, streamed in the order of the "
            "input, and a summary as the last line",
            {NDJSON: TEXT_FILE},
            {
                NDJSON: '{"line": 2, "status": 201, "code": "created", "member": "/members/42"}\n'
                '{"summary": {"created": 1}}\n'
            },
            headers=("Cache-Control",),
            may_have=("X-Ignored-Columns", "X-Header-Line"),
        )
    },
    problems=(UnreadableFile, Overloaded, DependencyUnavailable),
)


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
                leave_body_unread(self.request)
                raise
            self._refuse(problem)

    def _begin(self) -> None:
        query = ImportQuery(self.request.query_arguments, self.services.fields)
        options = query.file_options(*self._check_type())
        rules = self.services.rules
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
            ResultWriter(self._info, failures_only=query.failures_only),
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
        except Problem as problem:
            await self._forget(importing)
            self._refuse(problem)

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
        except Problem:
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
                self._set_file_headers()
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
            self._set_file_headers()
        try:
            await self._answer.send(results)
        except ReaderGone:
            if self._importing:
                self._importing.abandon()
            raise

    def _demand_reading(self) -> None:
        """From now on the results may not wait for the sender to finish."""
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


class ImportQuery:
    """The parameters of an import. The constructor raises BadParameter."""

    def __init__(self, arguments: Mapping[str, Sequence[bytes]], fields: FieldTable) -> None:
        self._fields = fields
        self._arguments = arguments
        self.on_conflict = cast(OnConflict, self._choice("on_conflict", _ON_CONFLICT))
        self.failures_only = self._choice("results", ("all", "failures")) == "failures"
        self.dry_run = self._flag("dry_run")

    def file_options(self, media_type: str, charset: str | None) -> FileOptions:
        """Return how to read the file."""
        return FileOptions(
            encoding=self._encoding() or charset,
            delimiter=self._delimiter(),
            columns=self._columns(),
            header_line=self._header_line(),
            sheet=self._text("sheet"),
            strict=self._flag("strict"),
            take_suspicious=self._flag("take_suspicious"),
            fields=self._fields,
            default_format="ndjson" if media_type == NDJSON else "csv",
        )

    def _text(self, name: str) -> str | None:
        values = self._arguments.get(name)
        return values[0].decode("utf-8", "replace") if values else None

    def _choice(self, name: str, choices: Sequence[str]) -> str:
        value = self._text(name)
        if value is not None and value not in choices:
            raise BadParameter(name, f"should be one of {', '.join(choices)}")
        return value or choices[0]

    def _flag(self, name: str) -> bool:
        value = self._text(name) or "false"
        if value not in ("true", "false"):
            raise BadParameter(name, "should be true or false")
        return value == "true"

    def _encoding(self) -> str | None:
        value = self._text("encoding")
        encoding = find_encoding(value[:40]) if value is not None else None
        if value is not None and encoding is None:
            raise BadParameter("encoding", "is not a known encoding, such as windows-1252")
        return encoding

    def _delimiter(self) -> str | None:
        value = self._text("delimiter")
        value = "\t" if value == "tab" else value
        if value is not None and not is_delimiter(value):
            raise BadParameter("delimiter", "should be one character, such as ;, or tab")
        return value

    def _header_line(self) -> int | None:
        value = self._text("header_line")
        if value is None:
            return None
        if not (value.isascii() and value.isdigit()) or not 1 <= int(value[:9]) <= 1000:
            raise BadParameter("header_line", "should be a number from 1 to 1000")
        return int(value)

    def _columns(self) -> list[tuple[str, str]]:
        values = self._arguments.get("column", ())
        if len(values) > _MOST_COLUMNS:
            raise BadParameter("column", f"is given more than {_MOST_COLUMNS} times")
        columns = [parse_column(v.decode("utf-8", "replace"), self._fields) for v in values]
        found = [column for column in columns if column]
        if len(found) < len(columns):
            wanted = ", ".join(self._fields.names)
            raise BadParameter("column", f"should be such as name=Full name; fields: {wanted}")
        if repeated := repeated_field(found):
            raise BadParameter("column", f"names {repeated} twice; only the name has several")
        return found
