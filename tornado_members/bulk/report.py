"""The report of a run of the command: refused rows, counts, and what to do next."""

import os
import shlex
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Self, TextIO

from tqdm import tqdm

from tornado_members.bulk.display import printable, quoted
from tornado_members.bulk.loader import Outcome, Result
from tornado_members.bulk.options import FileInfo, FileOptions
from tornado_members.bulk.rejects import RejectsFile
from tornado_members.bulk.rows import Refusal, Row

_MOST_SHOWN = 100  # refused rows
_MOST_UNUSED = 20  # further values
_OPTIONS = (
    ("encoding=windows-1252", "--encoding windows-1252"),
    ("column name=", "--column name="),
    ("(take_suspicious loads it)", "(--take-suspicious loads it)"),
)


class Report:
    """Prints and counts the results of one file, and keeps its refused rows."""

    def __init__(
        self, info: FileInfo, options: FileOptions, rejects: Path, again: Sequence[str]
    ) -> None:
        """`again` is the beginning of the command that loads the rejects file."""
        self._info = info
        self._options = options
        self._rejects = RejectsFile(rejects, info, options)
        self._again = again
        self._results: Counter[Result] = Counter()
        self._kinds: Counter[str] = Counter()
        self._unused = 0
        self._last_line = 0
        self._has_explained = False
        self._started = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._rejects.close()

    @property
    def refused(self) -> int:
        """The number of refused rows."""
        return self._kinds.total()

    def explain(self) -> None:
        """Print once the format and the columns of the file."""
        if not self._has_explained:
            self._has_explained = True
            for line in explain_file(self._info, self._options):
                print_above_bar(line)

    def note(self, row: Row, outcome: Outcome | Refusal) -> None:
        """Count the result of a row, and print it if it was refused."""
        self._last_line = row.line
        if isinstance(outcome, Refusal):
            self._refuse(row, outcome)
        elif outcome.result is Result.TAKEN:
            earlier = ", from an earlier row" if outcome.twice else ""
            reason = f"is taken by {_name_owner(outcome.member_id)}{earlier}"
            self._refuse(row, Refusal.of_field("name is taken", "/name", reason))
        else:
            self._results[outcome.result] += 1
            self._note_unused(row)

    def summary(self, *, complete: bool) -> str:
        """Return the counts, and how to load the refused rows."""
        counts = {
            "loaded": self._results[Result.CREATED],
            "replaced": self._results[Result.REPLACED],
            "unchanged": self._results[Result.UNCHANGED],
            "skipped": self._results[Result.SKIPPED],
            "refused": self.refused,
        }
        always = ("loaded", "refused")
        parts = [f"{n:,} {what}" for what, n in counts.items() if n or what in always]
        lines = [f"{', '.join(parts)} in {time.monotonic() - self._started:.1f} s"]
        lines += [f"{n:8,}  {kind}" for kind, n in self._kinds.most_common()]
        if self._unused:
            lines.append(f"{self._unused:8,}  had several values in a cell: the first is used")
        if self._info.skipped_entries:
            lines.append(f"{self._info.skipped_entries:8,}  were skipped: they are not people")
        if self._info.unknown_fields:
            lines.append(f"ignored: {', '.join(map(quoted, self._info.unknown_fields))}")
        if not complete:
            lines.append(f"Interrupted after line {self._last_line}: run it again for the rest.")
        if self._rejects.exists:
            lines.append("Correct the refused rows, and load them with:")
            lines.append(f"  {self._command()}")
        return "\n".join(lines)

    @property
    def place(self) -> str:
        """The path of the rejects file, as short as possible."""
        path = self._rejects.path
        return min(os.path.relpath(path), str(path), key=len)

    def _command(self) -> str:
        """Return the command that loads the rejects file."""
        parts = [*self._again, self.place]
        if not self._rejects.encoding.startswith("utf-8"):
            parts += ["--encoding", self._rejects.encoding]
        if self._info.delimiter != ",":
            parts += ["--delimiter", self._info.delimiter.replace("\t", "tab")]
        return shlex.join(parts)

    def _refuse(self, row: Row, refusal: Refusal) -> None:
        self._kinds[refusal.kind] += 1
        if self.refused <= _MOST_SHOWN:
            text = row.raw if row.raw is not None else ",".join(row.cells)
            reason = printable(with_options(refusal.reason), 1000)
            print_above_bar(f"line {row.line}: {reason}  ({printable(text)})")
        elif self.refused == _MOST_SHOWN + 1:
            print_above_bar(f"... more are in {self.place}")
        self._rejects.write(row, refusal)

    def _note_unused(self, row: Row) -> None:
        if not row.unused:
            return
        self._unused += 1
        if self._unused <= _MOST_UNUSED:
            further = [f"{key} {', '.join(map(quoted, rest))}" for key, rest in row.unused.items()]
            print_above_bar(f"line {row.line}: not used: {'; '.join(further)}")


def explain_file(info: FileInfo, options: FileOptions) -> list[str]:
    """Return lines that explain which columns are used for what, and which are ignored."""
    lines = []
    if info.header_line > 1:
        lines.append(f"header: line {info.header_line}; the lines above it are ignored")
    if info.format != "CSV":
        lines.append(f"format: {info.format}")
    mapping = info.mapping
    if mapping is None:
        return lines
    used = []
    for field, sources in mapping.sources.items():
        choices = [" + ".join(quoted(mapping.header[i]) for i in columns) for columns in sources]
        used.append(f"{field} from {', else '.join(choices)}")
    missing = [field for field in options.fields.names if field not in mapping.sources]
    parts = [", ".join(used)]
    if missing:
        parts.append(f"no {' and no '.join(missing)} (--column names one)")
    if mapping.ignored:
        parts.append(f"ignored: {', '.join(map(quoted, mapping.ignored))}")
    return [*lines, f"columns: {'; '.join(parts)}"]


def with_options(reason: str) -> str:
    """Return a reason with the command's options instead of the parameters of HTTP requests."""
    for parameter, option in _OPTIONS:
        reason = reason.replace(parameter, option)
    return reason


def print_above_bar(line: str) -> None:
    """Print a line on standard error, above the progress bar."""
    try:
        tqdm.write(line, file=sys.stderr)
        sys.stderr.flush()
    except BrokenPipeError:  # such as `| head`, which must not stop the command
        sys.stderr = _open_null()


def print_result(line: str) -> None:
    """Print a line on standard output."""
    try:
        encoding = sys.stdout.encoding or "utf-8"
        print(line.encode(encoding, "backslashreplace").decode(encoding), flush=True)
    except BrokenPipeError:
        sys.stdout = _open_null()


def _open_null() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")


def _name_owner(member_id: int | None) -> str:
    """Return a phrase for the document that has a name."""
    if member_id is None:
        return "another document"
    return f"member {member_id}" if member_id > 0 else "a new member"  # see DryRunDirectory
