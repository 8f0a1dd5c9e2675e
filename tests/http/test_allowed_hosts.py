"""The Host headers that the admin listener accepts."""

import pytest

from tornado_members.http.allowed_hosts import AllowedHosts


@pytest.mark.parametrize(
    ("host", "is_allowed"),
    [
        (None, True),
        ("localhost", True),
        ("LOCALHOST.:8889", True),
        ("members.localhost", True),
        ("127.0.0.1:8889", True),
        ("10.244.1.7:8889", True),
        ("[::1]:8889", True),
        ("[fd00::7]", True),
        ("members.internal:8889", True),
        ("Members.Internal.", True),
        ("", False),
        ("evil.example", False),
        ("evil.example:8889", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("evil.members.internal", False),
        ("[evil.example]", False),
        ("127.0.0.1@evil.example", False),
    ],
)
def test_addresses_loopback_names_and_listed_names_are_allowed(
    host: str | None, is_allowed: bool
) -> None:
    assert AllowedHosts(["members.internal"]).allows(host) == is_allowed
    assert AllowedHosts(["*"]).allows(host)
