"""Text that comes in pieces, as lines and as records of a CSV file (RFC 4180)."""

import io
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

# What stands inside of quotes, up to the quote that closes them.
_QUOTED = re.compile(r'[^"]*+(?:""[^"]*+)*+')


class LineCutter:
    r"""Cuts text into lines as an editor counts them: each with its end, which is \n, \r\n or \r.

    Of a line with more than `longest` characters, only one more than that is kept.
    """

    def __init__(self, longest: int | None = None) -> None:
        self._longest = longest
        self._begun: list[str] = []  # the pieces of a line whose end has not come
        self._room = longest + 1 if longest is not None else None
        self._held = ""  # a \r, behind which a \n may come

    def cut(self, text: str) -> list[str]:
        """The lines that end in this piece."""
        text = self._held + text
        self._held = "\r" if text.endswith("\r") else ""
        lines = list(io.StringIO(text.removesuffix(self._held), newline=""))
        complete = []
        for line in lines:
            self._keep(line)
            if line[-1] in "\r\n":
                complete.append(self._take())
        return complete

    def end(self) -> list[str]:
        """What is left when no more comes."""
        if self._held:
            self._keep(self._held)
            self._held = ""
        return [line] if (line := self._take()) else []

    def _keep(self, piece: str) -> None:
        if self._room is not None:
            piece = piece[: self._room]
            self._room -= len(piece)
        self._begun.append(piece)

    def _take(self) -> str:
        line = "".join(self._begun)
        self._begun.clear()
        self._room = self._longest + 1 if self._longest is not None else None
        return line


class _State(Enum):
    """How a line leaves the record that it belongs to."""

    CLOSED = auto()  # it ends there
    OPEN = auto()  # within quotes: it goes on
    BROKEN = auto()  # something stands behind a closing quote


@dataclass(frozen=True, slots=True)
class Record:
    """The lines of a record, or a single line that could not be read, and why."""

    line: int
    lines: list[str]
    reason: str | None = None


class Records:
    """Puts lines together to records, whose quoted cells may have line breaks in them.

    Of a record that cannot be read only the first line is given up, and the next one begins behind
    it: a quote that is never closed would swallow all that follows.

    Whatever the lines are, each is looked at twice at most: once as the first of a record, and once
    as one that began within quotes. What is known of the latter holds as well for a record that
    begins later, if it comes there within quotes, too.
    """

    def __init__(self, delimiter: str, longest: int, first_line: int = 1) -> None:
        """`longest` is the number of characters that a record may have."""
        self._delimiter = delimiter
        self._longest = longest
        self._line = first_line
        self._lines: deque[str] = deque()
        self._is_open = False  # whether the first line, as the first of a record, leaves it open
        self._known = 0  # so many lines, from the first, leave open what was open before them
        self._characters = 0  # in those
        self._next: _State | None = None  # how the line behind those leaves it

    def push(self, lines: list[str]) -> None:
        """More lines."""
        self._lines.extend(lines)

    def ready(self, *, ended: bool = False) -> Iterator[Record]:
        """The records that are complete; all that are left, if no more lines come.

        Blank lines between them are none.
        """
        while self._lines:
            if not self._is_open and self._lines[0].isspace():
                self._take(1)
            elif record := self._find(ended):
                yield record
            else:
                return

    def _find(self, ended: bool) -> Record | None:
        first = self._lines[0]
        if len(first) > self._longest:
            return self._give_up(f"has more than {self._longest} characters")
        if not self._is_open:
            state = self._scan(first, within=False)
            if state is _State.CLOSED:
                return self._take(1)
            if state is _State.BROKEN:
                return self._give_up("has something behind a closing quote")
            self._is_open = True
            if not self._known:
                self._known, self._characters = 1, len(first)
        return self._find_end(ended)

    def _find_end(self, ended: bool) -> Record | None:
        """Of a record that the first line leaves open."""
        while self._known < len(self._lines):
            line = self._lines[self._known]
            if self._characters + len(line) > self._longest:
                return self._give_up(f"has a quote that is open for {self._longest} characters")
            self._next = self._next or self._scan(line, within=True)
            if self._next is _State.CLOSED:
                return self._take(self._known + 1)
            if self._next is _State.BROKEN:
                return self._give_up("has something behind a closing quote")
            self._known += 1
            self._characters += len(line)
            self._next = None
        return self._give_up("has a quote that is never closed") if ended else None

    def _scan(self, line: str, *, within: bool) -> _State:
        """How a line leaves a record, if it begins within quotes or not."""
        if '"' not in line:
            return _State.OPEN if within else _State.CLOSED
        line = line.rstrip("\r\n")
        at, end = 0, len(line)
        while True:
            if within:
                quoted = _QUOTED.match(line, at)
                at = quoted.end() if quoted else at
                if at == end:
                    return _State.OPEN
                at += 1
                if at < end and line[at] != self._delimiter:
                    return _State.BROKEN
                if at == end:
                    return _State.CLOSED
                at += 1
            # Here a cell begins; a quote anywhere but at its beginning is a quote and nothing more.
            within = line.startswith('"', at)
            if within:
                at += 1
            else:
                at = line.find(self._delimiter, at) + 1
                if not at:
                    return _State.CLOSED

    def _take(self, count: int) -> Record:
        taken = [self._lines.popleft() for _ in range(count)]
        record = Record(self._line, taken)
        self._line += count
        self._forget(taken)
        return record

    def _give_up(self, reason: str) -> Record:
        record = self._take(1)
        return Record(record.line, record.lines, reason)

    def _forget(self, taken: list[str]) -> None:
        self._is_open = False
        self._known = max(0, self._known - len(taken))
        if self._known:
            self._characters -= sum(map(len, taken))
        else:
            self._characters, self._next = 0, None
