"""A row of a file: its member, or the reason why it has none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple

from tornado_members.errors import Fault
from tornado_members.model.member import MemberDraft

_NONE: Final[Mapping[str, Sequence[str]]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Refusal:
    """The reason why a row was not loaded: a kind for counting, and the faults."""

    kind: str
    faults: Sequence[Fault]

    @classmethod
    def of_row(cls, kind: str, detail: str) -> "Refusal":
        """Return a refusal of the row as a whole."""
        return cls(kind, (Fault("", detail),))

    @classmethod
    def of_field(cls, kind: str, pointer: str, detail: str) -> "Refusal":
        """Return a refusal because of one field."""
        return cls(kind, (Fault(pointer, detail),))

    @property
    def reason(self) -> str:
        """The faults as one sentence."""
        return "; ".join(f"{fault.pointer[1:]} {fault.detail}".strip() for fault in self.faults)


class Row(NamedTuple):
    """A row of a file: the line on which it begins, its cells, and the member in it."""

    line: int
    cells: Sequence[str]
    content: MemberDraft | Refusal
    raw: str | None = None  # the text of a row that could not be divided into cells
    unused: Mapping[str, Sequence[str]] = _NONE  # further values of a cell
