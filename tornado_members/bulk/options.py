"""Options for reading a file, and facts that are detected while it is read."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from tornado_members.bulk.mapping import ColumnMapping
from tornado_members.model.fields import FieldTable
from tornado_members.model.member import MEMBER_FIELDS


@dataclass(frozen=True, slots=True)
class FileOptions:
    """Options of the command line and of HTTP requests; None means detection."""

    encoding: str | None = None
    delimiter: str | None = None
    columns: Sequence[tuple[str, str]] = ()  # a field, and the heading or "#number" of its column
    header_line: int | None = None
    sheet: str | None = None  # the name or number of a worksheet
    strict: bool = False  # refuse unknown columns and fields
    take_suspicious: bool = False  # load rows that look like a total
    fields: FieldTable = MEMBER_FIELDS
    default_format: str = "csv"  # if the content does not reveal it: "csv" or "ndjson"


@dataclass(slots=True)
class FileInfo:
    """Facts about a file, as far as it has been read."""

    format: str = "CSV"
    encoding: str = "utf-8"
    delimiter: str = ","
    header_line: int = 0  # 0 until the header was found
    mapping: ColumnMapping | None = None
    unknown_fields: dict[str, None] = field(default_factory=dict)  # of JSON objects, in order
    skipped_entries: int = 0  # that are not people, such as groups

    @property
    def ignored(self) -> list[str]:
        """Columns and fields that are not fields of a member."""
        return [*(self.mapping.ignored if self.mapping else ()), *self.unknown_fields]
