"""Maps the columns of a file to the fields of a member."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from tornado_members.bulk.attribute_cells import nested, with_cells_read
from tornado_members.bulk.csv_export import ID_HEADING
from tornado_members.bulk.display import quoted
from tornado_members.bulk.headings import DISPLAY, FIRST, LAST, MIDDLE, Heading, recognise, resolve
from tornado_members.bulk.rows import Refusal
from tornado_members.bulk.values import cell_text, first_value
from tornado_members.errors import InvalidMember
from tornado_members.model.attributes import plain_heading
from tornado_members.model.fields import FieldTable, heading_key
from tornado_members.model.member import MEMBER_FIELDS, MemberDraft, parse_draft

_MOST_SHOWN: Final = 20  # headings in a message
_LONGEST_HEADING: Final = 100  # characters

# The columns of a field: alternatives, each of one or more columns whose texts are joined.
Sources = list[tuple[int, ...]]


@dataclass(frozen=True)
class ColumnMapping:
    """The columns of each field."""

    header: Sequence[str]
    sources: Mapping[str, Sources]
    faults: Sequence[str] = ()  # why the header cannot be used

    @property
    def is_usable(self) -> bool:
        """True if rows can be read with it."""
        return not self.faults and "name" in self.sources

    @property
    def used(self) -> set[int]:
        """Positions of the columns that hold fields of a member."""
        every = (columns for sources in self.sources.values() for columns in sources)
        return {column for columns in every for column in columns}

    @property
    def ignored(self) -> list[str]:
        """Headings of the columns that hold no field of a member."""
        used = self.used
        return [heading for i, heading in enumerate(self.header) if i not in used]

    @cached_property
    def is_export(self) -> bool:
        """True for a file that this service exported."""
        return ID_HEADING in self.header

    def read(self, cells: Sequence[str]) -> tuple[dict[str, str | None], dict[str, list[str]]]:
        """Return the value of each field, and the further values of its cell."""
        is_export = self.is_export
        values: dict[str, str | None] = {}
        unused: dict[str, list[str]] = {}
        for field, sources in self.sources.items():
            value = None
            for columns in sources:
                text = cell_text(cells[columns[0]], is_export=is_export)
                if len(columns) > 1:
                    further = (cell_text(cells[i], is_export=is_export) for i in columns[1:])
                    text = " ".join(filter(None, (text, *further)))
                if text:
                    value, rest = (text, []) if is_export else first_value(field, text)
                    if rest:
                        unused[field] = rest
                    break
            values[field] = value
        return values, unused


def parse_values(
    values: Mapping[str, str | None], fields: FieldTable = MEMBER_FIELDS
) -> MemberDraft | Refusal:
    """Return the member of a row's values."""
    if values.get("name") is None:
        return Refusal.of_field("no name", "/name", "is missing")
    try:
        read = with_cells_read(values, fields) if fields.attributes else values
        return parse_draft(nested(read, fields), fields=fields)
    except InvalidMember as error:
        return Refusal(f"bad {error.faults[0].pointer[1:]}", error.faults)


def map_columns(
    header: Sequence[str],
    columns: Sequence[tuple[str, str]] = (),
    fields: FieldTable = MEMBER_FIELDS,
) -> ColumnMapping:
    """Find the columns of each field.

    `columns` assigns fields to columns by heading, or by number such as "#3". Several columns of
    the name are joined in their order.
    """
    faults: list[str] = []
    sources: dict[str, Sources] = {}
    named: defaultdict[str, list[int]] = defaultdict(list)
    for field, selector in columns:
        position = _select(header, field, selector, faults)
        if position is not None:
            named[field].append(position)
    for field, positions in named.items():
        sources[field] = [tuple(positions)]
    wanted = {field for field, _ in columns}
    taken = {position for positions in named.values() for position in positions}
    recognised = _recognise_all(header, taken, fields)
    faults += _find_ambiguous(header, recognised, wanted)
    for field, found in _find_sources(recognised, fields).items():
        sources.setdefault(field, found)
    ordered = {field: sources[field] for field in fields.columns if field in sources}
    return ColumnMapping(header, ordered, faults)


def shown(header: Sequence[str]) -> str:
    """Return headings for a message, with the number of those that are left out."""
    parts = [quoted(heading) for heading in header[:_MOST_SHOWN]]
    more = len(header) - _MOST_SHOWN
    return ", ".join(parts) + (f" and {more} more" if more > 0 else "")


def attribute_of(heading: str, fields: FieldTable) -> str | None:
    """Return the path of the attribute that a column with this heading holds.

    Headings of attributes come before those that are recognised by guessing, and after those of
    the fields.
    """
    if not fields.attributes or heading_key(heading[:_LONGEST_HEADING]) in fields.by_heading:
        return None
    return fields.attributes.by_heading.get(plain_heading(heading[:_LONGEST_HEADING]))


def _recognise_all(
    header: Sequence[str], taken: set[int], fields: FieldTable
) -> dict[str, list[tuple[Heading, int]]]:
    """Return the columns of each role, the preferred ones first."""
    found: list[tuple[Heading, int]] = []
    for i, heading in enumerate(header):
        if i in taken:
            continue
        if path := attribute_of(heading, fields):
            found.append((Heading((0, 0), path, path), i))
        elif known := recognise(heading.strip()):
            found.append((known, i))
        elif field := fields.by_heading.get(heading_key(heading[:_LONGEST_HEADING])):
            found.append((Heading((0, 0), field, field), i))
    roles = resolve([heading for heading, _ in found])
    by_role: defaultdict[str, list[tuple[Heading, int]]] = defaultdict(list)
    for role, column in zip(roles, found, strict=True):
        by_role[role].append(column)
    return {
        role: sorted(columns, key=lambda c: (c[0].rank, c[1])) for role, columns in by_role.items()
    }


def _find_sources(
    recognised: Mapping[str, list[tuple[Heading, int]]], fields: FieldTable
) -> dict[str, Sources]:
    """Return the columns of each field."""
    sources: dict[str, Sources] = {
        field: [(i,) for _, i in recognised[field]]
        for field in fields.columns
        if field in recognised
    }
    names = sources.get("name", [])
    if FIRST in recognised and LAST in recognised:
        parts = [recognised[role][0][1] for role in (FIRST, MIDDLE, LAST) if role in recognised]
        names.append(tuple(parts))
    names += [(i,) for _, i in recognised.get(DISPLAY, ())]
    return {**sources, "name": names} if names else sources


def _find_ambiguous(
    header: Sequence[str], recognised: Mapping[str, list[tuple[Heading, int]]], wanted: set[str]
) -> list[str]:
    """Return a fault for each field that two columns hold equally well."""
    faults = []
    for role, columns in recognised.items():
        field = "name" if role in (FIRST, MIDDLE, LAST, DISPLAY) else role
        if field in wanted or len(columns) < 2 or columns[0][0].rank != columns[1][0].rank:
            continue
        first, second = columns[0][1], columns[1][1]
        faults.append(
            f"columns {first + 1} and {second + 1} both hold the {field} "
            f"({shown([header[first], header[second]])}): choose one, such as {field}=#{first + 1}"
        )
    return faults


def _select(header: Sequence[str], field: str, selector: str, faults: list[str]) -> int | None:
    """Return the position of a column that the caller named."""
    if selector.startswith("#") and selector[1:].isdecimal():
        position = int(selector[1:6]) - 1
        if 0 <= position < len(header):
            return position
        faults.append(f"column {selector} does not exist: the header has {len(header)}")
        return None
    wanted = selector.strip()
    found = [i for i, heading in enumerate(header) if heading.strip() == wanted]
    if not found:
        plain = wanted.casefold()
        found = [i for i, heading in enumerate(header) if heading.strip().casefold() == plain]
    if len(found) == 1:
        return found[0]
    if found:
        numbers = " and ".join(str(i + 1) for i in found[:_MOST_SHOWN])
        faults.append(
            f"columns {numbers} are both headed {quoted(selector)}: choose one by its "
            f"number, such as {field}=#{found[0] + 1}"
        )
    else:
        faults.append(f"the header has no column {quoted(selector)}")
    return None


def parse_column(text: str, fields: FieldTable = MEMBER_FIELDS) -> tuple[str, str] | None:
    """Return the field and the heading of "field=heading"; None if it is malformed."""
    field, equals, selector = text.partition("=")
    return (field, selector) if equals and selector.strip() and field in fields.columns else None


def repeated_field(columns: Sequence[tuple[str, str]]) -> str | None:
    """Return a field that has two columns and is not the name, whose columns are joined."""
    fields = [field for field, _ in columns if field != "name"]
    return next((field for field in fields if fields.count(field) > 1), None)
