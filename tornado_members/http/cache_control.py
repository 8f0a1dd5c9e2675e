"""The Cache-Control header of a request (RFC 9111 §5.2.1)."""

from tornado.httputil import HTTPHeaders


def wants_no_cache(headers: HTTPHeaders) -> bool:
    """Return True if the caller requires data from MongoDB (no-cache, §5.2.1.4).

    Every read satisfies the other directives, because the cache is never older than the data.
    """
    if "Cache-Control" not in headers:
        return False
    return "no-cache" in [word.strip().lower() for word in headers["Cache-Control"].split(",")]
