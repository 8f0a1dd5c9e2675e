"""A key for services that sign tokens: making one takes more processor time than their start."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from tornado_members.auth.signing import own_signing_key


def place_signing_key(data_dir: Path) -> None:
    """Give a service that has no signing key the one that all tests of this process share."""
    keys = data_dir / "keys"
    if not keys.exists():
        keys.mkdir(mode=0o700, parents=True)
        for name, content in _files().items():
            (keys / name).write_bytes(content)
            (keys / name).chmod(0o600)


@cache
def _files() -> dict[str, bytes]:
    with TemporaryDirectory() as name:
        own_signing_key(Path(name, "jwks.json"))
        return {file.name: file.read_bytes() for file in Path(name).iterdir()}
