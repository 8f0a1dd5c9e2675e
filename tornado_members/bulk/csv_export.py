"""Members as CSV (RFC 4180), one row per member."""

import csv
import io
from collections.abc import Sequence
from typing import Final

from tornado_members.bulk.attribute_cells import write_cell
from tornado_members.bulk.formula_cells import defuse
from tornado_members.model.attributes import KEY as ATTRIBUTES
from tornado_members.model.fields import FieldTable
from tornado_members.model.member import Member

ID_HEADING: Final = "memberId"


def csv_header(fields: FieldTable, *, delimiter: str = ",", bom: bool = False) -> bytes:
    """Return the first line, with a byte order mark before it if `bom` is set."""
    line = delimiter.join([ID_HEADING, *fields.columns]) + "\r\n"
    return line.encode("utf-8-sig" if bom else "utf-8")


def encode_csv(members: Sequence[Member], fields: FieldTable, delimiter: str = ",") -> bytes:
    """Return the rows. Text that a spreadsheet would execute is made harmless."""
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter).writerows(
        (member.member_id, *(defuse(cell) for cell in _cells(member, fields))) for member in members
    )
    return text.getvalue().encode()


def _cells(member: Member, fields: FieldTable) -> list[str]:
    cells = [member.values[name] or "" for name in fields.names]
    if fields.attributes:
        found = member.values[ATTRIBUTES]
        cells += [write_cell(found.get(name)) for name in fields.attributes.names]
    return cells
