"""Files that are the same for everybody and change with the program only, kept ready."""

import asyncio
import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from tornado_members.errors import NotFound

_OWN: Final = Path(__file__).parent.parent / "handlers" / "docs_page"
_VIEWER: Final = "mkdocs_swagger_ui_tag"  # it is never imported
# Where each file of the page is: ours, or in that package.
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
}


@dataclass(frozen=True, slots=True)
class Published:
    """Bytes, and the same as gzip. The two are two representations, with an ETag each."""

    media_type: str
    plain: bytes
    zipped: bytes

    @classmethod
    def of(cls, plain: bytes, media_type: str) -> "Published":
        """It takes a tenth of a second for a large one."""
        return cls(media_type, plain, gzip.compress(plain, mtime=0))

    def etag(self, *, as_gzip: bool) -> str:
        """Strong, quotes included (RFC 9110 §8.8.3)."""
        return f'"{_digest(self.plain)}{"-gzip" if as_gzip else ""}"'


@cache
def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


async def find_file(name: str) -> Published:
    """A file of the page. Raises NotFound for a name not in the table: nothing else is read."""
    if name not in _FILES:
        raise NotFound
    return await asyncio.to_thread(_read, name)


@cache
def _read(name: str) -> Published:
    package, path = _FILES[name]
    return Published.of((_folder(package) / path).read_bytes(), _MEDIA_TYPES[Path(name).suffix])


def _folder(package: str | None) -> Path:
    if package is None:
        return _OWN
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{package} is not installed; scripts/setup installs it")
    return Path(spec.origin).parent
