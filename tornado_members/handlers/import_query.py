"""The declaration of POST /members/import, and its parameters."""

from collections.abc import Sequence
from typing import Final, cast

from tornado_members.auth.permissions import WRITE
from tornado_members.bulk.decoding import find_encoding
from tornado_members.bulk.header import is_delimiter
from tornado_members.bulk.loader import OnConflict
from tornado_members.bulk.mapping import parse_column, repeated_field
from tornado_members.bulk.options import FileOptions
from tornado_members.errors import (
    BadParameter,
    DependencyUnavailable,
    Overloaded,
    UnreadableFile,
)
from tornado_members.handlers.parameters import (
    Arguments,
    decode_value,
    flag_of,
    number_of,
    text_of,
)
from tornado_members.model.fields import FieldTable
from tornado_members.openapi.examples import example_csv
from tornado_members.openapi.operation import (
    CSV,
    JSON,
    NDJSON,
    Body,
    Operation,
    Parameter,
    Response,
)
from tornado_members.openapi.schemas import TEXT_FILE, csv_file

_XLSX: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
_BINARY_FILE: Final = {"type": "string", "contentMediaType": "application/octet-stream"}
_ON_CONFLICT: Final[Sequence[OnConflict]] = ("reject", "skip", "replace")
_RESULTS: Final = (
    *("all", "failures", "rejects"),
    *("after", "all,after", "failures,after", "rejects,after"),
)
_MAX_COLUMNS: Final = 20  # values of the parameter `column`
_MAX_HEADER_LINE: Final = 1000
_MAX_SHEET: Final = 100  # characters
_MAX_ENCODING: Final = 40  # characters

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
            "Write the result of every row (`all`), or of refused rows only (`failures`). The "
            "summary always follows. `rejects` is `failures` with the `cells` of each refused row, "
            "and with the columns of the `file` in the summary. With `after`, the response begins "
            "when the whole body was read, for proxies that stop reading a request once its "
            "response has begun. Combine two with a comma: `failures,after`.",
            {"type": "string", "enum": [*_RESULTS], "default": "all"},
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
            {"type": "string", "maxLength": _MAX_ENCODING, "default": "utf-8"},
            "windows-1252",
        ),
        "delimiter": Parameter(
            "The character between the cells of a CSV file, or `tab`. It is detected by default.",
            # Letters and digits of other scripts are refused, too.
            {"type": "string", "pattern": r'^(?:tab|[^0-9A-Za-z"\r\n])$'},
            ";",
        ),
        "header_line": Parameter(
            "The number of the line that names the columns. It is detected by default.",
            {"type": "integer", "minimum": 1, "maximum": _MAX_HEADER_LINE},
            4,
        ),
        "sheet": Parameter(
            "The name or number of a worksheet; the first one by default.",
            {"type": "string", "minLength": 1, "maxLength": _MAX_SHEET},
            "Members",
        ),
        "strict": Parameter(
            "Refuse unknown columns and fields, instead of ignoring them.",
            {"type": "boolean", "default": False},
            True,
        ),
        "take_suspicious": Parameter(
            "Load rows that look like totals, instead of refusing them.",
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
        "element of an array, per card, entry or row of a worksheet. The format is detected. "
        "`memberId`, as in exports, is ignored.",
    ),
    responses={
        200: Response(
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


class ImportQuery:
    """The parameters of an import. The constructor raises BadParameter."""

    def __init__(self, arguments: Arguments, fields: FieldTable) -> None:
        self._fields = fields
        self._arguments = arguments
        self.on_conflict = cast(OnConflict, self._choice("on_conflict", _ON_CONFLICT))
        results = self._choice("results", _RESULTS).split(",")
        self.returns_rejects = "rejects" in results
        self.failures_only = "failures" in results or self.returns_rejects
        self.responds_after_body = "after" in results
        self.dry_run = flag_of(arguments, "dry_run")

    def file_options(self, media_type: str, charset: str | None) -> FileOptions:
        """Return the options for reading the file."""
        return FileOptions(
            encoding=self._encoding() or charset,
            delimiter=self._delimiter(),
            columns=self._columns(),
            header_line=number_of(self._arguments, "header_line", _MAX_HEADER_LINE),
            sheet=self._sheet(),
            strict=flag_of(self._arguments, "strict"),
            take_suspicious=flag_of(self._arguments, "take_suspicious"),
            fields=self._fields,
            default_format="ndjson" if media_type == NDJSON else "csv",
        )

    def _choice(self, name: str, choices: Sequence[str]) -> str:
        value = text_of(self._arguments, name)
        if value is not None and value not in choices:
            raise BadParameter(name, f"should be one of {', '.join(choices)}")
        return value or choices[0]

    def _encoding(self) -> str | None:
        value = text_of(self._arguments, "encoding")
        encoding = find_encoding(value[:_MAX_ENCODING]) if value is not None else None
        if value is not None and encoding is None:
            raise BadParameter("encoding", "is not a known encoding, such as windows-1252")
        return encoding

    def _delimiter(self) -> str | None:
        value = text_of(self._arguments, "delimiter")
        value = "\t" if value == "tab" else value
        if value is not None and not is_delimiter(value):
            raise BadParameter("delimiter", "should be one character, such as ;, or tab")
        return value

    def _sheet(self) -> str | None:
        value = text_of(self._arguments, "sheet")
        if value is not None and not 1 <= len(value) <= _MAX_SHEET:
            raise BadParameter("sheet", f"should have 1 to {_MAX_SHEET} characters")
        return value

    def _columns(self) -> list[tuple[str, str]]:
        values = self._arguments.get("column", ())
        if len(values) > _MAX_COLUMNS:
            raise BadParameter("column", f"is given more than {_MAX_COLUMNS} times")
        columns = [parse_column(decode_value("column", v), self._fields) for v in values]
        found = [column for column in columns if column]
        if len(found) < len(columns):
            names = ", ".join(self._fields.columns)
            detail = f"should be FIELD=COLUMN, such as name=Full name; fields: {names}"
            raise BadParameter("column", detail)
        if repeated := repeated_field(found):
            detail = f"names {repeated} twice; only the name has several columns"
            raise BadParameter("column", detail)
        return found
