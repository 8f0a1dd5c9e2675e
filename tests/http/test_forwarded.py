"""The client's address behind trusted and untrusted proxies."""

import pytest
from tornado.httputil import HTTPHeaders

from tornado_members.http.forwarded import TrustedProxies

TRUSTED = ("10.0.0.0/8", "192.0.2.7", "2001:db8::/32")


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "caller"),
    [
        ("10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("192.0.2.7", "203.0.113.9", "203.0.113.9"),
        ("192.0.2.8", "203.0.113.9", "192.0.2.8"),  # sets the header, but is not trusted
        ("10.0.0.1", "", "10.0.0.1"),
        (
            "10.0.0.1",
            "198.51.100.1, 203.0.113.9",
            "203.0.113.9",
        ),  # the client may have forged the first address
        ("10.0.0.1", "203.0.113.9, 10.1.1.1, 192.0.2.7", "203.0.113.9"),
        ("10.0.0.1", "10.9.9.9, 10.1.1.1", "10.9.9.9"),
        ("10.0.0.1", "unknown", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.9, nonsense, 10.1.1.1", "10.1.1.1"),
        ("10.0.0.1", "203.0.113.9:4711", "203.0.113.9"),
        ("10.0.0.1", "[2001:db9::1]:4711", "2001:db9::1"),
        ("10.0.0.1", "2001:db9::1", "2001:db9::1"),
        ("2001:db8::1", "203.0.113.9", "203.0.113.9"),
        ("::ffff:10.0.0.1", "::ffff:203.0.113.9", "203.0.113.9"),
        ("0.0.0.0", "203.0.113.9", "unix"),
        ("::ffff:198.51.100.7", "", "198.51.100.7"),  # an IPv4 client of a dual-stack socket
        ("10.0.0.1", "[::ffff:203.0.113.9]:4711", "203.0.113.9"),
        ("10.0.0.1", "2001:DB9:0::0001", "2001:db9::1"),
    ],
)
def test_caller_is_the_last_address_that_is_not_trusted(
    peer: str, forwarded_for: str, caller: str
) -> None:
    headers = HTTPHeaders({"X-Forwarded-For": forwarded_for} if forwarded_for else {})
    assert TrustedProxies(TRUSTED).caller(peer, headers) == caller


def test_repeated_headers_are_one_list() -> None:
    headers = HTTPHeaders()
    headers.add("X-Forwarded-For", "198.51.100.1")
    headers.add("X-Forwarded-For", "203.0.113.9")
    assert TrustedProxies(TRUSTED).caller("10.0.0.1", headers) == "203.0.113.9"


def test_no_proxy_is_trusted_by_default() -> None:
    headers = HTTPHeaders({"X-Forwarded-For": "203.0.113.9"})
    assert TrustedProxies().caller("127.0.0.1", headers) == "127.0.0.1"


def test_unix_socket_may_be_trusted() -> None:
    proxies = TrustedProxies(("unix",))
    headers = HTTPHeaders({"X-Forwarded-For": "203.0.113.9"})
    assert proxies.caller("0.0.0.0", headers) == "203.0.113.9"
    assert proxies.caller("127.0.0.1", headers) == "127.0.0.1"
    assert proxies.caller("", HTTPHeaders()) == "unix"
    assert TrustedProxies().caller("", headers) == "unix"
    assert TrustedProxies().caller("::ffff:10.0.0.1", headers) == "10.0.0.1"
