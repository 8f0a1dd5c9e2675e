"""Load members from files, or generate fake ones."""

import asyncio
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from errno import EEXIST
from functools import partial
from itertools import chain, count, islice
from pathlib import Path
from typing import BinaryIO, TypeVar

from tqdm import tqdm

from tornado_members.bulk.decoding import find_encoding
from tornado_members.bulk.fake_members import fake_members
from tornado_members.bulk.file_loading import OpenFile, load_files
from tornado_members.bulk.header import is_delimiter
from tornado_members.bulk.loader import BATCH, Loader, Result
from tornado_members.bulk.mapping import parse_column, repeated_field
from tornado_members.bulk.member_file import read_members
from tornado_members.bulk.options import FileInfo, FileOptions
from tornado_members.bulk.report import Report, with_options
from tornado_members.bulk.sources import read_stream
from tornado_members.directory import MemberDirectory
from tornado_members.embedded.private_servers import servers_for
from tornado_members.errors import UnreadableFile
from tornado_members.model.attributes import path_of
from tornado_members.model.fields import FieldTable
from tornado_members.model.history import Actor
from tornado_members.model.member import MEMBER_FIELDS
from tornado_members.services import open_directory
from tornado_members.serving.garbage_collection import tune_garbage_collection
from tornado_members.settings import Settings
from tornado_members.storage.stores import open_lists, open_stores
from tornado_members.telemetry.logs import configure_logging

T = TypeVar("T")

_FIELDS = f"{', '.join(MEMBER_FIELDS.names)} or attributes.NAME"
_ACTOR = Actor(issuer=None, subject="scripts/seed")
_STANDARD_INPUT = Path("-")


def add_arguments(parser: ArgumentParser) -> None:
    """Add the sources of members, their formats, and what to do if a name is taken."""
    parser.add_argument(
        "files",
        nargs="*",
        type=Path,
        metavar="FILE",
        help="CSV, Excel (.xlsx), vCard, LDIF, JSON or NDJSON, also compressed with gzip; "
        "- is standard input",
    )
    parser.add_argument("--fake", type=_positive, metavar="N", help="generate N members instead")
    parser.add_argument(
        "--on-conflict",
        choices=("reject", "skip", "replace"),
        default="reject",
        help="what to do with a row whose name another member has (reject)",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="report what would happen, and change no member"
    )
    parser.add_argument(
        "--rejects",
        type=Path,
        metavar="FILE",
        help="new file for refused rows (<data_dir>/rejects/<name of the file>)",
    )
    parser.add_argument(
        "--column",
        action="append",
        default=[],
        type=_column,
        metavar="FIELD=HEADING",
        help=f"the column of a field ({_FIELDS}), by its heading or number (#3); "
        "several for the name are joined",
    )
    parser.add_argument("--encoding", type=_encoding, help="character encoding of the file (utf-8)")
    parser.add_argument(
        "--delimiter", type=_delimiter, help="separator of a CSV file, or tab (detected)"
    )
    parser.add_argument(
        "--header-line",
        type=_positive,
        metavar="N",
        help="number of the line that names the columns (detected)",
    )
    parser.add_argument("--sheet", help="name or number of a worksheet (the first one)")
    parser.add_argument(
        "--strict", action="store_true", help="refuse columns that are not fields of a member"
    )
    parser.add_argument(
        "--take-suspicious", action="store_true", help="load rows that look like totals"
    )


def run(arguments: Namespace) -> int:
    """Load members. Return 0 if all rows were loaded, 1 if some were refused, and 2 for errors."""
    problem = _find_contradiction(arguments)
    if problem:
        print(f"seed: {problem}", file=sys.stderr)
        return 2
    settings = arguments.source.load()
    tune_garbage_collection()
    configure_logging(settings.log.level)
    fields = settings.members.fields()
    if unknown := _unknown_column(arguments.column, fields):
        print(f"seed: {unknown}", file=sys.stderr)
        return 2
    if arguments.fake:
        load = partial(_load_fake, total=arguments.fake, fields=fields)
        return _with_directory(settings, load)
    try:
        return _run_files(arguments, settings)
    except OSError as error:
        reason = error.strerror or error
        where = error.filename or arguments.files[0]
        print(f"seed: {where}: {reason}", file=sys.stderr)
        return 2


def _find_contradiction(arguments: Namespace) -> str | None:
    """Return an error if the arguments contradict each other."""
    if bool(arguments.files) == bool(arguments.fake):
        return "a FILE or --fake is required, and not both"
    if arguments.files.count(_STANDARD_INPUT) > 1:
        return "standard input can be read once only"
    if arguments.rejects and len(arguments.files) > 1:
        return "--rejects is for one file; without it, each file has its own"
    if repeated := repeated_field(arguments.column):
        return f"--column names {repeated} twice; only the name has several columns"
    return None


def _unknown_column(columns: Sequence[tuple[str, str]], fields: FieldTable) -> str | None:
    """Return an error if --column names a field that the settings do not declare."""
    unknown = [field for field, _ in columns if field not in fields.columns]
    if not unknown:
        return None
    return f"--column: {unknown[0]} is not a field; fields: {', '.join(fields.columns)}"


def _run_files(arguments: Namespace, settings: Settings) -> int:
    """Open all files before loading, so that an invalid header is reported first."""
    with ExitStack() as stack:
        files = []
        for path in arguments.files:
            try:
                files.append(_open(path, arguments, settings, stack))
            except UnreadableFile as error:
                print(f"seed: {path}: {with_options(error.reason)}", file=sys.stderr)
        if len(files) < len(arguments.files):
            return 2
        try:
            loading = partial(
                load_files,
                files=files,
                on_conflict=arguments.on_conflict,
                actor=_ACTOR,
                dry_run=arguments.dry_run,
            )
            _with_directory(settings, loading)
        except UnreadableFile as error:  # after rows that were loaded
            print(f"seed: {with_options(error.reason)}", file=sys.stderr)
            return 2
        return 1 if any(file.report.refused for file in files) else 0


def _open(path: Path, arguments: Namespace, settings: Settings, stack: ExitStack) -> OpenFile:
    """Open a file and read its header. Raises UnreadableFile and OSError."""
    options = FileOptions(
        encoding=arguments.encoding,
        delimiter=arguments.delimiter,
        columns=arguments.column,
        header_line=arguments.header_line,
        sheet=arguments.sheet,
        strict=arguments.strict,
        take_suspicious=arguments.take_suspicious,
        fields=settings.members.fields(),
    )
    is_standard_input = path == _STANDARD_INPUT
    stream: BinaryIO = (
        sys.stdin.buffer if is_standard_input else stack.enter_context(path.open("rb"))
    )
    info = FileInfo()
    rows = read_members(read_stream(stream), options, info)
    name = "standard-input.csv" if is_standard_input else path.name
    rejects = arguments.rejects or _new_file(settings.data_dir / "rejects", name)
    if rejects.exists():
        raise FileExistsError(
            EEXIST, "already exists; name another file for --rejects", str(rejects)
        )
    report = Report(info, options, rejects, _command(arguments))
    first = next((row for row in rows if row is not None), None)
    report.explain()
    stack.enter_context(report)
    return OpenFile(path, stream, chain(() if first is None else (first,), rows), report)


def _command(arguments: Namespace) -> list[str]:
    """Return the beginning of the command that loads the rejects file."""
    is_script = Path(sys.argv[0]).name == "__main__.py"
    command = ["scripts/seed"] if is_script else ["tornado-members", "seed"]
    conflict = arguments.on_conflict
    return command if conflict == "reject" else [*command, "--on-conflict", conflict]


def _new_file(folder: Path, name: str) -> Path:
    """Return a path for a file of this name that does not exist. Earlier rejects are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    path = Path(name)
    numbered = (folder / f"{path.stem}.{i}{path.suffix}" for i in count(2))
    return next(p for p in chain([folder / name], numbered) if not p.exists())


def _with_directory(settings: Settings, job: Callable[[MemberDirectory], Awaitable[T]]) -> T:
    """Run a job on the members, with private servers if the settings require them."""

    async def work() -> T:
        uri, cache_servers = private.addresses_for(settings)
        async with (
            open_stores(settings, uri) as stores,
            open_lists(stores, uri, max_wait=None),
            open_directory(settings, stores, cache_servers) as directory,
        ):
            return await job(directory)

    with servers_for(settings) as private:
        return asyncio.run(work())


async def _load_fake(directory: MemberDirectory, total: int, fields: FieldTable) -> int:
    started = time.monotonic()
    loader = Loader(directory, "skip", _ACTOR)
    people = fake_members(fields)
    left = total
    with tqdm(total=total, unit=" members", disable=None) as bar:
        while left:
            outcomes = await loader.load(list(islice(people, min(left, BATCH))))
            created = sum(outcome.result is Result.CREATED for outcome in outcomes)
            left -= created
            bar.update(created)
    print(f"{total:,} loaded in {time.monotonic() - started:.1f} s")
    return 0


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError("must be a positive integer")
    return int(text)


def _column(text: str) -> tuple[str, str]:
    field, equals, heading = text.partition("=")
    column = parse_column(text)
    if column is None and field.startswith(path_of("")) and equals and heading.strip():
        return field, heading  # run() checks it against the settings
    if column is None:
        raise ArgumentTypeError(
            f"should be FIELD=HEADING, such as name='Full name'; fields: {_FIELDS}"
        )
    return column


def _encoding(text: str) -> str:
    encoding = find_encoding(text)
    if encoding is None:
        raise ArgumentTypeError(f"unknown encoding {text}")
    return encoding


def _delimiter(text: str) -> str:
    text = "\t" if text == "tab" else text
    if not is_delimiter(text):
        raise ArgumentTypeError("should be one character, such as ';', or tab")
    return text
