"""Regular expressions that match any text in bounded time.

They are compiled by RE2, which takes time linear in the text and has no back-references and no
look-around (https://github.com/google/re2/wiki/Syntax). A large repetition still makes each
character expensive, so the product of the program's size and the length of the text is bounded.
"""

from collections.abc import Callable

# Instructions times characters. The slowest patterns take 20 ns per step.
_MAX_STEPS = 2_000_000
_MAX_MEMORY = 2**20  # bytes per pattern


def compile_pattern(pattern: str, max_characters: int) -> Callable[[str], bool]:
    """Return a function that is true for texts in which the pattern is found.

    `max_characters` is the length of the longest text. Raises ValueError with a message that can
    follow "should be ".
    """
    import re2  # type: ignore[import-untyped]  # noqa: PLC0415  # only services that declare a pattern load the library

    options = re2.Options()
    options.max_mem = _MAX_MEMORY
    options.never_capture = True
    options.log_errors = False
    try:
        compiled = re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0] if error.args else ""
        text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise ValueError(f"a regular expression in the syntax of RE2 ({text})") from None
    size, most = int(compiled.programsize), _MAX_STEPS // max_characters
    if size > most:
        raise ValueError(
            f"a regular expression of at most {most} instructions for text of {max_characters} "
            f"characters; this one has {size}: use smaller repetitions, or a smaller max_length"
        )
    search = compiled.search
    return lambda text: search(text) is not None
