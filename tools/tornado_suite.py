"""Run Tornado's own test modules with http1 instead of Tornado's HTTP server.

    python -m tools.tornado_suite tornado.test.httpserver_test ...

A test that fails must be on the list `EXCEPTIONS`, with a reason; and a test on the list must fail.
"""

import importlib
import logging
import sys
import unittest
import warnings
from typing import Any

import tornado.testing
from tornado.httputil import HTTPServerConnectionDelegate
from tornado.netutil import ssl_options_to_context

from tornado_members.http1.limits import Limits
from tornado_members.http1.server import HTTPServer

MODULES = ["tornado.test.httpserver_test"]
# These modules test handlers, clients and more, through a server.
FURTHER_MODULES = [
    "tornado.test.web_test",
    "tornado.test.simple_httpclient_test",
    "tornado.test.httpclient_test",
    "tornado.test.routing_test",
    "tornado.test.websocket_test",
    "tornado.test.wsgi_test",
    "tornado.test.gen_test",
    "tornado.test.auth_test",
]

_413 = "a body over the limit is a 413, for which Tornado sends 400"
_WORDS = "the 400 has headers and a body, where Tornado's has neither"
_CHUNKED_10 = "HTTP/1.0 with a Transfer-Encoding is faulty (RFC 9112 §6.1)"
_TLS_DETACH = "a TLS connection cannot be detached"
EXCEPTIONS = {
    "BodyLimitsTest.test_large_body_buffered": _413,
    "BodyLimitsTest.test_large_body_buffered_chunked": _413,
    "BodyLimitsTest.test_large_body_streaming": _413,
    "BodyLimitsTest.test_large_body_streaming_chunked": _413,
    "BodyLimitsTest.test_body_size_override_reset": _413,
    "BodyLimitsTest.test_timeout": "a body that does not come is a 408, where Tornado only closes",
    "UnixSocketTestFile.test_unix_socket_bad_request": _WORDS,
    "UnixSocketTestAbstract.test_unix_socket_bad_request": _WORDS,
    "KeepAliveTest.test_keepalive_chunked": _CHUNKED_10,
    "HTTPConnectionTest.test_newlines": "lines end with CR LF; Tornado takes LF until 6.7",
    "BadSSLOptionsTest.test_missing_arguments": "there are contexts here, and no ssl_options",
    "SimpleHTTPSClientTestCase.test_multiple_content_length_accepted": _TLS_DETACH,
    "SimpleHTTPSClientTestCase.test_no_content_length": _TLS_DETACH,
    "HTTP100ContinueTestCase.test_100_continue": "it writes to connection.stream, past HTTP",
    "FloodTest.test_many_small_messages_yield": "WebSocket frames sent ahead of the handshake's "
    "response are lost: what has been read cannot be given back to a stream",
}
# Options that HTTPServer does not have.
_UNSUPPORTED = {"xheaders", "decompress_request", "trusted_downstream"}


def make_server(app: Any, **options: Any) -> HTTPServer:
    """Accept the arguments of tornado.httpserver.HTTPServer(app, **options)."""
    if any(options.get(name) for name in _UNSUPPORTED):
        raise unittest.SkipTest("HTTPServer has no such option")
    if not isinstance(app, HTTPServerConnectionDelegate):
        raise unittest.SkipTest("HTTPServer takes no callbacks")
    limits: dict[str, Any] = {
        "piece_bytes": options.get("chunk_size"),
        "head_bytes": options.get("max_header_size"),
        "idle_seconds": options.get("idle_connection_timeout"),
        "body_bytes": options.get("max_body_size"),
    }
    context = options.get("ssl_options")
    if isinstance(context, dict):
        context = ssl_options_to_context(context, server_side=True)
    return HTTPServer(
        app,
        limits=Limits(**{name: value for name, value in limits.items() if value}),
        ssl_context=context,
        protocol=options.get("protocol"),
    )


class AnyLog(tornado.testing.ExpectLog):
    """Accepts any log: each server logs refusals in its own way."""

    def __init__(self, logger: Any, regex: Any, *_: Any, **__: Any) -> None:
        super().__init__(logger, regex, required=False)


def run(names: list[str]) -> tuple[int, list[str]]:
    """Return the number of tests that ran, and the unexpected results."""
    logging.getLogger("tornado.access").setLevel(logging.CRITICAL)  # as in Tornado's own runner
    logging.getLogger("tornado_members").setLevel(logging.CRITICAL)
    testing: Any = tornado.testing
    testing.HTTPServer = make_server
    suite = unittest.TestSuite()
    for name in names:
        module: Any = importlib.import_module(name)
        if hasattr(module, "HTTPServer"):
            module.HTTPServer = make_server
        if hasattr(module, "ExpectLog"):
            module.ExpectLog = AnyLog
        suite.addTests(unittest.defaultTestLoader.loadTestsFromModule(module))
    known = {short_name(test.id()) for test in each(suite)}
    warnings.simplefilter("ignore")
    result = unittest.TextTestRunner(verbosity=0).run(suite)
    failed = {short_name(test.id()) for test, _ in [*result.failures, *result.errors]}
    wrong = [f"{name} fails" for name in sorted(failed - EXCEPTIONS.keys())]
    skipped = {short_name(test.id()) for test, _ in result.skipped}
    listed = EXCEPTIONS.keys() & known
    wrong += [f"{name} does not fail any more" for name in sorted(listed - failed - skipped)]
    return result.testsRun - len(result.skipped), wrong


def each(suite: unittest.TestSuite) -> list[unittest.TestCase]:
    """Return all tests of a suite."""
    found = []
    for test in suite:
        found += each(test) if isinstance(test, unittest.TestSuite) else [test]
    return found


def short_name(name: str) -> str:
    """Return the names of the class and the test."""
    return ".".join(name.split(" ", maxsplit=1)[0].split(".")[-2:])


def main(names: list[str]) -> int:
    count, wrong = run(names or [*MODULES, *FURTHER_MODULES])
    print(f"{count} tests of Tornado's were run, of which {len(wrong)} are not as expected")
    for line in wrong:
        print(line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
