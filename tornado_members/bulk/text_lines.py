"""Lines of text that arrives in pieces, and lines that are folded over several."""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

_LONGEST: Final = 64 * 1024  # characters of a line that are kept, such as of a photo


def unfold(
    texts: Iterable[str], is_quoted_printable: Callable[[str], bool] = lambda _: False
) -> Iterator[tuple[int, str] | None]:
    """Yield logical lines with the number of their first line; None means nothing yet.

    A line that begins with a space or a tab continues the one before (RFC 6350 §3.2, RFC 2849). So
    does a line after an equals sign in quoted-printable text (RFC 2045 §6.7).
    """
    first, parts, size = 0, [""], 0
    is_quoted: bool | None = None  # computed once per logical line, whose beginning may be long
    for found in _split(texts):
        if found is None:
            yield None
            continue
        line, text = found
        if is_quoted is None and parts[-1].endswith("="):
            is_quoted = is_quoted_printable(parts[0])
        is_soft = bool(is_quoted) and parts[-1].endswith("=")
        if is_soft or (text[:1] in (" ", "\t") and first):
            if is_soft:
                parts[-1] = parts[-1][:-1]
                text = f" {text}"
            if size < _LONGEST:
                parts.append(text[1:])
                size += len(text)
            continue
        if first:
            yield first, "".join(parts)
        first, parts, size, is_quoted = line, [text], len(text), None
    if first:
        yield first, "".join(parts)


def _split(texts: Iterable[str]) -> Iterator[tuple[int, str] | None]:
    line, begun = 1, ""
    for text in texts:
        first, *rest = text.split("\n")
        begun += first[: _LONGEST - len(begun)] if len(begun) < _LONGEST else ""
        for further in rest:
            yield line, begun
            line += 1
            begun = further[:_LONGEST]
        yield None
    if begun:
        yield line, begun
