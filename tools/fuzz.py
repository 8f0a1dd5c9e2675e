"""Search for responses that /openapi.json does not describe, on a service of its own."""

import random
import signal
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tests.support.fuzzing import ATTRIBUTES, EVERYTHING, fuzz
from tests.support.service import Command


def main(argv: Sequence[str] | None = None) -> int:
    """Run schemathesis. Returns 1 if a response did not match, or the service logged an error."""
    arguments = _parser().parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that it cleans up
    with (
        suppress(KeyboardInterrupt),
        tempfile.TemporaryDirectory(prefix="tornado-members-fuzz-") as name,
    ):
        return _fuzz(arguments, Path(name))
    return 130


def _fuzz(arguments: Namespace, folder: Path) -> int:
    command = Command(folder, {"members": {"attributes": ATTRIBUTES}, **EVERYTHING})
    with command.serving() as service:
        print(f"the service is at {service.url}; seed {arguments.seed}", flush=True)
        token = command.token("--rights", "3", "--expires", "24h")
        options = ["--seed", f"{arguments.seed}", "--workers", f"{arguments.workers}"]
        options += ["--max-time", f"{arguments.seconds}"]
        if arguments.max_examples:
            options += ["--max-examples", f"{arguments.max_examples}"]
        done = fuzz(
            service.url, token, folder, *options, seconds=arguments.seconds + 600, show=True
        )
    errors = [line for line in command.log().splitlines() if " ERROR " in line]
    print("\n".join(["the service logged errors:", *errors] if errors else ["no error was logged"]))
    again = f"scripts/fuzz --seconds {arguments.seconds} --seed {arguments.seed}"
    print(f"to repeat: {again}")
    return 1 if done.returncode or errors else 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=300, help="duration (%(default)s)")
    parser.add_argument("--max-examples", type=int, help="maximum number of requests per operation")
    parser.add_argument("--workers", type=int, default=2, help="concurrent workers (%(default)s)")
    parser.add_argument(
        "--seed",
        type=int,
        default=random.randrange(10**6),
        help="the same seed generates the same requests",
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
