"""A row of other people's files: the member in it, or why there is none."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from tornado_members.errors import Fault
from tornado_members.model.member import MemberDraft


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a row was not loaded: a kind for counting, and what is wrong with it."""

    kind: str
    faults: Sequence[Fault]

    @classmethod
    def of_row(cls, kind: str, detail: str) -> "Refusal":
        """It is not a field that is wrong."""
        return cls(kind, (Fault("", detail),))

    @classmethod
    def of_field(cls, kind: str, pointer: str, detail: str) -> "Refusal":
        """One field is wrong."""
        return cls(kind, (Fault(pointer, detail),))

    @property
    def reason(self) -> str:
        """It in a sentence."""
        return "; ".join(f"{fault.pointer[1:]} {fault.detail}".strip() for fault in self.faults)


@dataclass(frozen=True, slots=True)
class Row:
    """A row: the line on which it begins, its cells, and the member in it or why there is none."""

    line: int
    cells: Sequence[str]
    content: MemberDraft | Refusal
    broken: bool = False  # could not be cut into cells: the only one is the text of the line


class Rows(Protocol):
    """CsvRows or JsonRows: bytes in as they come, rows out as they are complete."""

    def push(self, data: bytes) -> None:
        """More of the source."""

    def close(self) -> None:
        """There is no more."""

    def ready(self) -> Iterator[Row]:
        """The rows that are complete, checked one by one as they are asked for."""
