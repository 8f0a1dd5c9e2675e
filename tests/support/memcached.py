"""Memcached without the client under test."""

import socket


def ask_memcached(address: str, request: bytes) -> bytes:
    """Send one command; returns the reply to its last line."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(request)
        reply = b""
        while not reply.endswith((b"OK\r\n", b"END\r\n", b"STORED\r\n", b"ERROR\r\n")):
            received = connection.recv(65536)
            if not received:
                break
            reply += received
        return reply


def flush_memcached(address: str) -> None:
    """Empty the server."""
    assert ask_memcached(address, b"flush_all\r\n") == b"OK\r\n"


def stored_keys(address: str) -> list[bytes]:
    """The keys of all entries."""
    dump = ask_memcached(address, b"lru_crawler metadump all\r\n")
    return [line.split(b" ")[0][4:] for line in dump.splitlines() if line.startswith(b"key=")]
