"""The Cache-Control header of a request (RFC 9111 §5.2.1)."""


def has_no_cache(header: str) -> bool:
    """Return True if a Cache-Control header requires data from MongoDB (no-cache, §5.2.1.4).

    Every read satisfies the other directives, because the cache is never stale.
    """
    return "no-cache" in [directive.strip().lower() for directive in header.split(",")]
