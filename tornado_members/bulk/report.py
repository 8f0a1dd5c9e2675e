"""What became of the rows of a file: refused ones are told, counted, and kept to be mended."""

import csv
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Self, TextIO

from tqdm import tqdm

from tornado_members.bulk.csv_rows import CsvFile
from tornado_members.bulk.loader import Outcome, Result
from tornado_members.bulk.rows import Refusal, Row

_MOST_SHOWN = 100
# They stand first, so that a row with too few or too many cells is refused until it is mended.
_OWN_COLUMNS = ["line", "reason"]


class Report:
    """Counts results; writes refused rows to a file of their own as they come.

    The file is in the source's delimiter and encoding, with the line and the reason before the
    cells: mended, it can be loaded in its turn.
    """

    def __init__(self, source: CsvFile, rejects: Path) -> None:
        """`rejects` must not be there yet; it is made with the first refused row."""
        again = source.header[:2] == _OWN_COLUMNS  # rows that were refused before
        self._skipped = 2 if again else 0
        self._header = source.header[self._skipped :]
        self._delimiter = source.delimiter
        self._encoding = "utf-8" if source.encoding.startswith("utf") else source.encoding
        self._rejects = rejects
        self._stream: TextIO | None = None
        self._results: Counter[Result] = Counter()
        self._kinds: Counter[str] = Counter()
        self._last_line = 0
        self._started = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream:
            self._stream.close()

    @property
    def refused(self) -> int:
        """How many rows were refused."""
        return self._kinds.total()

    def note(self, row: Row, outcome: Outcome | Refusal) -> None:
        """What became of a row."""
        self._last_line = row.line
        if isinstance(outcome, Refusal):
            self._refuse(row, outcome)
        elif outcome.result is Result.TAKEN:
            earlier = ", from an earlier row of this file" if outcome.twice else ""
            reason = f"is taken by member {outcome.member_id}{earlier}"
            if outcome.member_id is None:
                reason = "is taken by a document in the database that is not a member"
            self._refuse(row, Refusal.of_field("name is taken", "/name", reason))
        else:
            self._results[outcome.result] += 1

    def summary(self, *, complete: bool) -> str:
        """What became of all of them, or of those before the work was broken off."""
        counts = {
            "loaded": self._results[Result.CREATED],
            "replaced": self._results[Result.REPLACED],
            "there already": self._results[Result.UNCHANGED],
            "skipped": self._results[Result.SKIPPED],
            "refused": self.refused,
        }
        always = ("loaded", "refused")
        parts = [f"{n:,} {what}" for what, n in counts.items() if n or what in always]
        lines = [f"{', '.join(parts)} in {time.monotonic() - self._started:.1f} s"]
        lines += [f"{n:8,}  {kind}" for kind, n in self._kinds.most_common()]
        if not complete:
            lines.append(f"Broken off behind line {self._last_line}: run it again for the rest.")
        if self._stream:
            lines.append(f"The refused rows are in {self.place}: mend them and load that file.")
        return "\n".join(lines)

    @property
    def place(self) -> str:
        """Where the refused rows are, as short as it can be said from here."""
        return min(os.path.relpath(self._rejects), str(self._rejects), key=len)

    def _refuse(self, row: Row, refusal: Refusal) -> None:
        self._kinds[refusal.kind] += 1
        if self.refused <= _MOST_SHOWN:
            shown = ",".join(row.cells)[:80].encode("utf-8", "replace").decode()
            hint = "; --encoding names another" if refusal.kind == "wrong encoding" else ""
            tell(f"line {row.line}: {refusal.reason}{hint}  ({shown})")
        elif self.refused == _MOST_SHOWN + 1:
            tell(f"... more are in {self.place}")
        self._write(row, refusal)

    def _write(self, row: Row, refusal: Refusal) -> None:
        if self._stream is None:
            # Bytes that fitted no character go out as they came in.
            self._stream = self._rejects.open(
                "x", encoding=self._encoding, errors="surrogateescape", newline=""
            )
            self._write_row([*_OWN_COLUMNS, *self._header])
        if row.broken:  # as it came: quoted once more, it would no longer be broken
            prefix = f"{row.line}{self._delimiter}{refusal.kind}{self._delimiter}"
            already = row.cells[0].split(self._delimiter, self._skipped)[-1]
            self._stream.write(f"{prefix}{already}\r\n")
        else:
            self._write_row([str(row.line), refusal.reason, *row.cells[self._skipped :]])

    def _write_row(self, cells: Sequence[str]) -> None:
        csv.writer(self._stream, delimiter=self._delimiter).writerow(cells)  # type: ignore[arg-type]


def tell(line: str) -> None:
    """Say something beside the progress bar."""
    try:
        tqdm.write(line, file=sys.stderr)
        sys.stderr.flush()
    except BrokenPipeError:  # nobody listens, as under `| head`: that must not stop the work
        sys.stderr = _silence()


def conclude(line: str) -> None:
    """Say what came of it, on standard output."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        sys.stdout = _silence()


def _silence() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")
