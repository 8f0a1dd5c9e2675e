"""Public files that change only with the program, prepared in memory."""

import asyncio
import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from tornado_members.errors import NotFound

_PACKAGE: Final = Path(__file__).parent.parent
_OWN: Final = _PACKAGE / "handlers" / "docs_page"
_CONSOLE: Final = _PACKAGE / "console"
_VIEWER: Final = "mkdocs_swagger_ui_tag"  # it is never imported
# The package and the path of each file of the page /docs; None for this package.
_FILES: Final = {
    "docs.html": (None, "docs.html"),
    "docs.css": (None, "docs.css"),
    "docs.js": (None, "docs.js"),
    "swagger-ui.css": (_VIEWER, "swagger-ui/stylesheets/swagger-ui.css"),
    "swagger-ui-bundle.js": (_VIEWER, "swagger-ui/javascripts/swagger-ui-bundle.js"),
}
_MEDIA_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_PAGE: Final = "index.html"


@dataclass(frozen=True, slots=True)
class StaticContent:
    """A file as it is and as gzip: two representations, each with its own ETag."""

    media_type: str
    plain: bytes
    zipped: bytes

    @classmethod
    def of(cls, plain: bytes, media_type: str) -> "StaticContent":
        """Compress a file. This takes a tenth of a second for a large one."""
        return cls(media_type, plain, gzip.compress(plain, mtime=0))

    def etag(self, *, as_gzip: bool) -> str:
        """Return the strong entity tag, with its quotes (RFC 9110 §8.8.3)."""
        return f'"{_digest(self.plain)}{"-gzip" if as_gzip else ""}"'


@cache
def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


async def find_file(name: str) -> StaticContent:
    """Return a file of the page /docs. Raises NotFound for a name that is not in the table."""
    if name not in _FILES:
        raise NotFound
    return await asyncio.to_thread(_read, name)


async def find_console_page(title: str) -> StaticContent:
    """Return the page of the console with this title."""
    return await asyncio.to_thread(_console_page, title)


async def find_console_file(name: str) -> StaticContent:
    """Return a file that the console's page loads. Raises NotFound for any other name."""
    if name not in await asyncio.to_thread(console_files):
        raise NotFound
    return await asyncio.to_thread(_read_console, name)


@cache
def console_files() -> frozenset[str]:
    """Return the names of the files that the console's page loads."""
    names = {file.name for file in _CONSOLE.iterdir() if file.suffix in _MEDIA_TYPES}
    return frozenset(names - {_PAGE})


@cache
def _console_page(title: str) -> StaticContent:
    text = (_CONSOLE / _PAGE).read_text("utf-8").replace("{{title}}", escape(title))
    return StaticContent.of(text.encode(), _MEDIA_TYPES[".html"])


@cache
def _read_console(name: str) -> StaticContent:
    file = _CONSOLE / name
    return StaticContent.of(file.read_bytes(), _MEDIA_TYPES[file.suffix])


@cache
def _read(name: str) -> StaticContent:
    package, path = _FILES[name]
    return StaticContent.of((_folder(package) / path).read_bytes(), _MEDIA_TYPES[Path(name).suffix])


def _folder(package: str | None) -> Path:
    if package is None:
        return _OWN
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{package} is not installed; scripts/setup installs it")
    return Path(spec.origin).parent
