"""Content negotiation by the Accept header (RFC 9110 §12.5.1)."""

import re
from functools import lru_cache

_RANGE = re.compile(r"\s*([!#$%&'*+.^_`|~\w-]+)/([!#$%&'*+.^_`|~\w-]+)\s*((?:;[^;]*)*)")
_WEIGHT = re.compile(r";\s*q\s*=\s*([01](?:\.[0-9]{0,3})?)\s*$", re.IGNORECASE)


def accepts(header: str, media_type: str) -> bool:
    """True if an Accept header admits a media type."""
    return choose(header, (media_type,)) is not None


@lru_cache(64)  # clients send few different headers, which may be long
def choose(header: str, offered: tuple[str, ...]) -> str | None:
    """Return the preferred media type, the first of several equal ones; None if all are excluded.

    A malformed header admits everything: a response of another type does less harm than none.
    """
    if not header.strip():
        return offered[0]
    weights = [_weigh(header, media_type) for media_type in offered]
    best = max(weights)
    return offered[weights.index(best)] if best > 0 else None


def _weigh(header: str, media_type: str) -> float:
    """Return the quality of a media type, from 0 to 1; the most specific range counts."""
    if header in ("*/*", media_type):
        return 1.0
    kind, _, subtype = media_type.partition("/")
    closeness = {(kind, subtype): 3, (kind, "*"): 2, ("*", "*"): 1}
    best, weight = 0, 0.0
    for part in header.split(","):
        if not part.strip():
            continue
        found = _RANGE.fullmatch(part)
        if not found:
            return 1.0
        precision = closeness.get((found[1].lower(), found[2].lower()), 0)
        if precision > best:
            best, weight = precision, _quality(found[3])
    return weight


def _quality(parameters: str) -> float:
    weight = _WEIGHT.search(parameters)
    return float(weight[1]) if weight else 1.0
