"""What a caller is ready to take (RFC 9110 §12.5.1)."""

import re

_RANGE = re.compile(r"\s*([!#$%&'*+.^_`|~\w-]+)/([!#$%&'*+.^_`|~\w-]+)\s*((?:;[^;]*)*)")
_WEIGHT = re.compile(r";\s*q\s*=\s*([01](?:\.[0-9]{0,3})?)\s*$", re.IGNORECASE)


def accepts(header: str, media_type: str) -> bool:
    """Whether an Accept header admits a media type; of several ranges the closest one counts.

    One that makes no sense admits everything: an answer of another type does less harm than none.
    """
    if header in ("", "*/*", media_type):
        return True
    kind, _, subtype = media_type.partition("/")
    closeness = {(kind, subtype): 3, (kind, "*"): 2, ("*", "*"): 1}
    best, weight = 0, 0.0
    for part in header.split(","):
        if not part.strip():
            continue
        found = _RANGE.fullmatch(part)
        if not found:
            return True
        given = closeness.get((found[1].lower(), found[2].lower()), 0)
        if given > best:
            quality = _WEIGHT.search(found[3])
            best, weight = given, float(quality[1]) if quality else 1.0
    return weight > 0 or not header.strip()
