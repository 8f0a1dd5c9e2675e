"""Compression on request, and only where it changes nothing else."""

import gzip
import json

import pytest

from tests.support.api import Api, parsed
from tornado_members.http.encoding import accepts_gzip


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        ("", False),
        ("gzip", True),
        ("GZip", True),
        ("x-gzip", True),
        ("identity, deflate, br", False),
        ("br, gzip;q=0.5", True),
        ("gzip;q=0", False),
        ("gzip ; q=0.000", False),
        ("*", True),
        ("*;q=0", False),
        ("gzip;q=0, *", False),
        ("*;q=0, gzip", True),
        ("gzip;q=2", False),
        ("gzipped", False),
        (",,gzip,", True),
    ],
)
def test_accept_encoding_admits_gzip(header: str, accepted: bool) -> None:
    assert accepts_gzip(header) is accepted


async def test_long_list_is_compressed_on_request(api: Api) -> None:
    for i in range(20):
        await api.create(f"Ada {i}", email=f"ada{i}@example.org")
    plain = await api("GET", "/members", decompress_response=False)
    assert "Content-Encoding" not in plain.headers
    assert "Accept-Encoding" in plain.headers["Vary"]
    headers = {"Accept-Encoding": "br, gzip"}
    short = await api("GET", "/members", headers=headers, decompress_response=False)
    assert short.headers["Content-Encoding"] == "gzip"
    assert "Accept-Encoding" in short.headers["Vary"]
    assert len(short.body) < len(plain.body) / 2
    assert json.loads(gzip.decompress(short.body)) == parsed(plain)
    head = await api("HEAD", "/members", headers=headers, decompress_response=False)
    assert head.headers["Content-Length"] == short.headers["Content-Length"]


async def test_short_responses_and_those_with_an_etag_are_not_compressed(api: Api) -> None:
    long_name = "\U0001d49c" * 255
    await api.create(long_name)
    headers = {"Accept-Encoding": "gzip"}
    member = await api("GET", "/members/1", headers=headers, decompress_response=False)
    assert len(member.body) > 1024
    assert "Content-Encoding" not in member.headers  # its ETag identifies exactly these bytes
    await api("DELETE", "/members/1")
    none = await api("GET", "/members", headers=headers, decompress_response=False)
    assert "Content-Encoding" not in none.headers
