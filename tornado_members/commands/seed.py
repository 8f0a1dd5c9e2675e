"""Load members from a CSV file, or generate fake ones."""

import asyncio
import os
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from errno import EEXIST
from functools import partial
from io import BufferedReader
from itertools import chain, count, islice
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from tornado_members.bulk.csv_rows import CsvFile
from tornado_members.bulk.fake_members import fake_members
from tornado_members.bulk.loader import BATCH, Loader, OnConflict, Result
from tornado_members.bulk.report import Report, conclude, tell
from tornado_members.bulk.rows import Refusal, Row
from tornado_members.directory import MemberDirectory
from tornado_members.embedded.private_servers import servers_for
from tornado_members.errors import UnreadableFile
from tornado_members.model.history import Actor
from tornado_members.model.member import MEMBER_FIELDS, MemberDraft
from tornado_members.services import open_directory, open_stores
from tornado_members.settings import Settings
from tornado_members.telemetry.logs import configure_logging

T = TypeVar("T")

_FIELDS = ", ".join(MEMBER_FIELDS.names)
_ACTOR = Actor(issuer=None, subject="scripts/seed")


def add_arguments(parser: ArgumentParser) -> None:
    """Add the source of the members, and the treatment of taken names."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("file", nargs="?", type=Path, help="CSV file with a header line")
    source.add_argument(
        "--fake", type=_positive, metavar="N", help="generate N fake members instead"
    )
    parser.add_argument(
        "--on-conflict",
        choices=("reject", "skip", "replace"),
        default="reject",
        help="treatment of a row whose name another member has (reject)",
    )
    parser.add_argument(
        "--rejects",
        type=Path,
        metavar="FILE",
        help="new file for rejected rows (<data_dir>/rejects/<name of the file>)",
    )
    parser.add_argument(
        "--column",
        action="append",
        default=[],
        type=_column,
        metavar="FIELD=HEADING",
        help=f"the column of a field with an unusual heading; fields: {_FIELDS}",
    )
    parser.add_argument(
        "--encoding", type=_encoding, default="utf-8", help="encoding of the file (utf-8)"
    )


def run(arguments: Namespace) -> int:
    """Load the members. Returns 0 if all are loaded, 1 if rows were rejected, 2 on failure."""
    settings = arguments.source.load()
    configure_logging(settings.log.level)
    if arguments.fake:
        return _with_directory(settings, partial(_load_fake_members, wanted=arguments.fake))
    try:
        return _run_file(arguments, settings)
    except UnicodeError as error:  # of an encoding that cannot continue after an error
        print(f"seed: {arguments.file} is not valid {arguments.encoding}: {error}", file=sys.stderr)
        return 2
    except (UnreadableFile, OSError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "reason", None) or error
        if isinstance(error, UnreadableFile) and "no column 'name'" in error.reason:
            reason = f"{error.reason}; name it with --column name=HEADING"
        where = getattr(error, "filename", None) or arguments.file
        print(f"seed: {where}: {reason}", file=sys.stderr)
        return 2


def _run_file(arguments: Namespace, settings: Settings) -> int:
    """Raises UnreadableFile, OSError."""
    rejects: Path = arguments.rejects or _new_file(
        settings.data_dir / "rejects", arguments.file.name
    )
    if rejects.exists():
        raise FileExistsError(
            EEXIST, "already exists; pass another file to --rejects", str(rejects)
        )
    with arguments.file.open("rb") as stream:
        rows = CsvFile(stream, encoding=arguments.encoding, columns=dict(arguments.column))
        tell(_explain_columns(rows))
        with Report(rows, rejects) as report:
            loading = partial(_load_rows, on_conflict=arguments.on_conflict, rows=rows)
            try:
                _with_directory(settings, partial(loading, stream=stream, report=report))
            except BaseException:
                conclude(report.summary(complete=False))
                raise
    conclude(report.summary(complete=True))
    return 1 if report.refused else 0


def _new_file(folder: Path, name: str) -> Path:
    """Return a path for a new file of this name. Rejected rows of earlier runs are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    path = Path(name)
    numbered = (folder / f"{path.stem}.{i}{path.suffix}" for i in count(2))
    return next(p for p in chain([folder / name], numbered) if not p.exists())


def _explain_columns(rows: CsvFile) -> str:
    """Describe the columns used, missing and ignored. Unknown headings are not errors."""
    used = [f"{field} from {rows.header[i]!r}" for field, i in rows.positions.items()]
    ignored = [repr(h) for i, h in enumerate(rows.header) if i not in rows.positions.values()]
    missing = [field for field in MEMBER_FIELDS.names if field not in rows.positions]
    parts = [", ".join(used)]
    if missing:
        parts.append(f"no {' and no '.join(missing)} (--column names one)")
    if ignored:
        parts.append(f"ignored: {', '.join(ignored)}")
    return f"columns: {'; '.join(parts)}"


def _with_directory(settings: Settings, job: Callable[[MemberDirectory], Awaitable[T]]) -> T:
    """Run a job on the members, with private servers if the settings require them."""

    async def work() -> T:
        uri, cache_servers = private.addresses_for(settings)
        async with (
            open_stores(settings, uri) as stores,
            open_directory(settings, stores, cache_servers) as directory,
        ):
            return await job(directory)

    with servers_for(settings) as private:
        return asyncio.run(work())


async def _load_fake_members(directory: MemberDirectory, wanted: int) -> int:
    started = time.monotonic()
    loader = Loader(directory, "skip", _ACTOR)
    people = fake_members()
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
    stream: BufferedReader,
    report: Report,
) -> None:
    loader = Loader(directory, on_conflict, _ACTOR)
    size = os.fstat(stream.fileno()).st_size or None  # a pipe has none
    with tqdm(total=size, unit="B", unit_scale=True, disable=None) as bar:
        for batch in _batches(rows, BATCH):
            await _load_batch(loader, batch, report)
            if size:
                bar.update(stream.tell() - bar.n)


async def _load_batch(loader: Loader, batch: Sequence[Row], report: Report) -> None:
    drafts = [row.content for row in batch if isinstance(row.content, MemberDraft)]
    outcomes = iter(await loader.load(drafts))
    for row in batch:
        report.note(row, row.content if isinstance(row.content, Refusal) else next(outcomes))


def _batches(rows: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(rows)
    while batch := list(islice(iterator, size)):
        yield batch


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError("should be an integer of at least 1")
    return int(text)


def _column(text: str) -> tuple[str, str]:
    field, equals, heading = text.partition("=")
    if not equals or field not in MEMBER_FIELDS.names:
        raise ArgumentTypeError(
            f"should be FIELD=HEADING, such as name='Full name'; fields: {_FIELDS}"
        )
    return field, heading


def _encoding(text: str) -> str:
    try:
        "".encode(text)
    except LookupError:
        raise ArgumentTypeError(f"unknown encoding {text}") from None
    return text
