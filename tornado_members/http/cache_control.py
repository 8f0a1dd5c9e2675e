"""The Cache-Control header of a request (RFC 9111 §5.2.1)."""

from tornado.httputil import HTTPHeaders


def has_no_cache(headers: HTTPHeaders) -> bool:
    """Return True if the caller requires data from MongoDB (no-cache, §5.2.1.4).

    Every read satisfies the other directives, because the cache is never stale.
    """
    if "Cache-Control" not in headers:
        return False
    directives = headers["Cache-Control"].split(",")
    return "no-cache" in [directive.strip().lower() for directive in directives]
