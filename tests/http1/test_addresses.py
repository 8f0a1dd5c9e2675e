"""Addresses whose connections count together."""

import socket

import pytest

from tornado_members.http1.addresses import address_key


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:0db8:0001:0002"),
        ("2001:db8:1:2::9", "2001:0db8:0001:0002"),
        ("fe80::1%eth0", "fe80:0000:0000:0000"),
    ],
)
def test_address_key_is_the_network_of_an_ipv6_address(address: str, key: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    assert address_key(family, (address, 1234)) == key


def test_address_key_of_a_unix_socket_is_none() -> None:
    assert address_key(socket.AF_UNIX, "") is None
