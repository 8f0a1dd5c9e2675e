"""Load members from a CSV file, or make some up."""

import asyncio
import csv
import os
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import BinaryIO, TextIO, TypeVar

from tqdm import tqdm

from tornado_members.app import open_directory
from tornado_members.directory import MemberDirectory
from tornado_members.embedded.private_servers import servers_for
from tornado_members.loading.csv_rows import CsvFile, CsvUnusable, Refusal, Row
from tornado_members.loading.loader import BATCH, Loader, OnConflict, Outcome, Result
from tornado_members.loading.made_up import made_up_members
from tornado_members.member import MemberDraft
from tornado_members.settings import Settings
from tornado_members.settings_file import load_settings
from tornado_members.telemetry import configure_logging

T = TypeVar("T")

_MOST_SHOWN = 100
_FIELDS = ("name", "email", "phone")


def add_arguments(parser: ArgumentParser) -> None:
    """Where the members come from, and what to do where a name is taken."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("file", nargs="?", type=Path, help="a CSV file with a header line")
    source.add_argument("--fake", type=_positive, metavar="N", help="make up N members instead")
    parser.add_argument(
        "--on-conflict",
        choices=("reject", "skip", "replace"),
        default="reject",
        help="what to do with a row whose name another member has (reject)",
    )
    parser.add_argument(
        "--rejects",
        type=Path,
        metavar="FILE",
        help="where refused rows go (<data_dir>/rejects/<name of the file>)",
    )
    parser.add_argument(
        "--column",
        action="append",
        default=[],
        type=_column,
        metavar="FIELD=HEADING",
        help="which column holds the name, email or phone, where its heading does not tell",
    )
    parser.add_argument("--encoding", type=_encoding, default="utf-8", help="of the file (utf-8)")


def run(arguments: Namespace) -> int:
    """Load; the exit code is 0 when everything is there now, 1 when rows were refused."""
    settings = load_settings(arguments.config)
    configure_logging()
    if arguments.fake:
        return _with_directory(settings, partial(_load_made_up, wanted=arguments.fake))
    try:
        with arguments.file.open("rb") as stream:
            rows = CsvFile(stream, encoding=arguments.encoding, columns=dict(arguments.column))
            place = arguments.rejects or settings.data_dir / "rejects" / arguments.file.name
            with _Report(rows.header, place) as report:
                loading = partial(_load_rows, on_conflict=arguments.on_conflict, rows=rows)
                _with_directory(settings, partial(loading, stream=stream, report=report))
    except (CsvUnusable, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        print(f"seed: {getattr(error, 'filename', arguments.file)}: {reason}", file=sys.stderr)
        return 2
    print(report.summary())
    return 1 if report.refused else 0


def _with_directory(settings: Settings, job: Callable[[MemberDirectory], Awaitable[T]]) -> T:
    """Do a job on the members, starting private servers where they are wanted."""

    async def work() -> T:
        async with open_directory(settings, *private.addresses_for(settings)) as directory:
            return await job(directory)

    with servers_for(settings) as private:
        return asyncio.run(work())


async def _load_made_up(directory: MemberDirectory, wanted: int) -> int:
    started = time.monotonic()
    loader = Loader(directory, "skip")
    people = made_up_members()
    left = wanted
    with tqdm(total=wanted, unit=" members", disable=None) as bar:
        while left:
            outcomes = await loader.load(list(islice(people, min(left, BATCH))))
            created = sum(outcome.result is Result.CREATED for outcome in outcomes)
            left -= created
            bar.update(created)
    print(f"{wanted:,} loaded in {time.monotonic() - started:.1f} s")
    return 0


async def _load_rows(
    directory: MemberDirectory,
    on_conflict: OnConflict,
    rows: CsvFile,
    stream: BinaryIO,
    report: "_Report",
) -> None:
    loader = Loader(directory, on_conflict)
    size = os.fstat(stream.fileno()).st_size
    with tqdm(total=size, unit="B", unit_scale=True, disable=None) as bar:
        for batch in _batches(rows, BATCH):
            await _load_batch(loader, batch, report)
            bar.update(stream.tell() - bar.n)


async def _load_batch(loader: Loader, batch: Sequence[Row], report: "_Report") -> None:
    drafts = [row.content for row in batch if isinstance(row.content, MemberDraft)]
    outcomes = iter(await loader.load(drafts))
    for row in batch:
        if isinstance(row.content, Refusal):
            report.refuse(row, row.content)
        else:
            report.note(row, next(outcomes))


class _Report:
    """What became of the rows: refused ones are shown, counted, and written to a file."""

    def __init__(self, header: Sequence[str], rejects: Path) -> None:
        # What was refused before and is loaded again has these two columns already.
        self._width = len(header) - 2 if list(header[-2:]) == ["line", "reason"] else len(header)
        self._header = header[: self._width]
        self._rejects = rejects
        self._draft = rejects.with_name(f".{rejects.name}.new")
        self._stream: TextIO | None = None
        self._results: Counter[Result] = Counter()
        self._kinds: Counter[str] = Counter()
        self._started = time.monotonic()

    def __enter__(self) -> "_Report":
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream:
            self._stream.close()
            self._draft.replace(self._rejects)

    @property
    def refused(self) -> int:
        """How many rows were refused."""
        return self._kinds.total()

    def note(self, row: Row, outcome: Outcome) -> None:
        """What the loader made of a row."""
        if outcome.result is Result.TAKEN:
            reason = f"name is taken by member {outcome.member_id}"
            self.refuse(row, Refusal("name is taken", reason))
        else:
            self._results[outcome.result] += 1

    def refuse(self, row: Row, refusal: Refusal) -> None:
        """A row that cannot be loaded."""
        self._kinds[refusal.kind] += 1
        if self.refused <= _MOST_SHOWN:
            shown = ",".join(row.cells)[:80].encode("utf-8", "replace").decode()
            tqdm.write(f"line {row.line}: {refusal.reason}  ({shown})", file=sys.stderr)
        elif self.refused == _MOST_SHOWN + 1:
            tqdm.write(f"... more are in {self._rejects}", file=sys.stderr)
        self._write(row, refusal)

    def summary(self) -> str:
        """What became of all of them."""
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
        if self._stream:
            where = os.path.relpath(self._rejects)
            lines.append(f"The refused rows are in {where}: mend them and load that file.")
        return "\n".join(lines)

    def _write(self, row: Row, refusal: Refusal) -> None:
        if self._stream is None:
            self._rejects.parent.mkdir(parents=True, exist_ok=True)
            # Bytes that fitted no character go out as they came in.
            self._stream = self._draft.open(
                "w", encoding="utf-8", errors="surrogateescape", newline=""
            )
            csv.writer(self._stream).writerow([*self._header, "line", "reason"])
        cells = [*row.cells, *[""] * (self._width - len(row.cells))]
        csv.writer(self._stream).writerow([*cells[: self._width], row.line, refusal.reason])


def _batches(rows: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(rows)
    while batch := list(islice(iterator, size)):
        yield batch


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError("should be a whole number from 1")
    return int(text)


def _column(text: str) -> tuple[str, str]:
    field, equals, heading = text.partition("=")
    if not equals or field not in _FIELDS:
        raise ArgumentTypeError("should be such as name='Full name'; fields: name, email, phone")
    return field, heading


def _encoding(text: str) -> str:
    try:
        "".encode(text)
    except LookupError:
        raise ArgumentTypeError(f"{text} is not an encoding") from None
    return text
