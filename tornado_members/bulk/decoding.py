"""Decodes bytes to text: encodings, byte order marks and line ends."""

import codecs
import io
import re
from collections.abc import Iterable, Iterator
from typing import Final

from tornado_members.bulk.display import quoted
from tornado_members.errors import UnreadableFile

_BYTE_ORDER_MARKS: Final = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_LONGEST_MARK: Final = 4  # bytes; enough to detect UTF-16 without a mark
# Text encodings of files. Others that Python supports, such as punycode, take quadratic time.
_ENCODING: Final = re.compile(
    r"ascii|utf-(?:8(?:-sig)?|(?:16|32)(?:-[lb]e)?)|iso8859-\d+|cp\d+|koi8-[ru]|mac-\w+"
    r"|shift_jis\w*|euc_(?:jp|kr)\w*|gbk|gb2312|gb18030|big5\w*|iso2022_jp|tis-620|johab"
)
_MULTI_BYTE: Final = re.compile(r"utf-(?:16|32)|shift|euc|gb|big5|iso2022|johab|cp9[345]")
# The characters that a decoder returns for bytes that do not fit the encoding (PEP 383).
_ESCAPED: Final = re.compile("[\udc80-\udcff]")
_REPLACED: Final = re.compile("\ufffd")


def find_encoding(name: str) -> str | None:
    """Return Python's name of an encoding of text files; None if it is unknown."""
    try:
        found = codecs.lookup(name).name
    except (LookupError, ValueError):
        return None
    return found if _ENCODING.fullmatch(found) else None


class TextDecoder:
    """Decodes the pieces of a file.

    Bytes that do not fit the encoding are decoded to characters that `undecoded` matches, so that
    only the rows that contain them are refused.
    """

    def __init__(self, encoding: str | None) -> None:
        """`encoding` is the one that the caller declares; a byte order mark overrides it."""
        self.encoding = encoding or "utf-8"
        self.is_declared = encoding is not None
        self.undecoded = _ESCAPED
        self.has_undecoded = False  # in what was decoded so far

    def decode(self, pieces: Iterable[bytes]) -> Iterator[str]:
        r"""Yield text whose line ends are \n."""
        head = b""
        decoder: io.IncrementalNewlineDecoder | None = None
        for piece in pieces:
            if decoder is None:
                head += piece
                if len(head) < _LONGEST_MARK:
                    yield ""
                    continue
                decoder, data = self._open(head), head
            else:
                data = piece
            yield self._check(_decode(decoder, data, final=False, encoding=self.encoding))
        data = b"" if decoder else head
        decoder = decoder or self._open(head)
        yield self._check(_decode(decoder, data, final=True, encoding=self.encoding))

    def _check(self, text: str) -> str:
        """Record whether bytes did not fit the encoding."""
        if not (self.has_undecoded or text.isascii()):
            self.has_undecoded = self.undecoded.search(text) is not None
        return text

    def _open(self, head: bytes) -> io.IncrementalNewlineDecoder:
        self.encoding = _detect(head) or self.encoding
        is_multi_byte = _MULTI_BYTE.match(self.encoding) is not None
        self.undecoded = _REPLACED if is_multi_byte else _ESCAPED
        errors = "replace" if is_multi_byte else "surrogateescape"
        decoder = codecs.getincrementaldecoder(self.encoding)(errors)
        return io.IncrementalNewlineDecoder(decoder, translate=True)

    def describe_undecoded(self, text: str) -> str:
        """Describe text that contains undecoded bytes, and the remedy."""
        name = self.encoding.removesuffix("-sig").upper()
        return (
            f"has bytes that are not {name} (near {quoted(text)}); name the encoding, "
            "for example encoding=windows-1252"
        )


def _detect(head: bytes) -> str | None:
    """Return the encoding that the first bytes reveal; None if they do not."""
    for mark, encoding in _BYTE_ORDER_MARKS:
        if head.startswith(mark):
            return encoding
    zeros = [byte == 0 for byte in head[:4]]
    if zeros == [False, True, False, True]:
        return "utf-16-le"
    return "utf-16-be" if zeros == [True, False, True, False] else None


def _decode(
    decoder: io.IncrementalNewlineDecoder, data: bytes, *, final: bool, encoding: str
) -> str:
    try:
        return decoder.decode(data, final)
    except UnicodeError:  # some decoders cannot continue after a fault
        raise UnreadableFile(f"the file is not in the encoding {encoding}") from None
