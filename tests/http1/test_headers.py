"""Headers that share their content, and their encoding."""

import pytest
from tornado.httputil import HTTPHeaders

from tornado_members.http1.heads import SharedHeaders, encode_headers


def test_changing_a_copy_leaves_the_original_and_other_copies_unchanged() -> None:
    original = HTTPHeaders({"Vary": "Origin", "Server": "x", "Date": "now"})
    other, copy = SharedHeaders(original), SharedHeaders(original)
    copy.add("vary", "Accept")
    copy.add("Age", "7")
    copy["Date"] = "later"
    del copy["Server"]
    assert [*copy.get_all()] == [
        *(("Vary", "Origin"), ("Vary", "Accept")),
        *(("Date", "later"), ("Age", "7")),
    ]
    assert copy["Vary"] == "Origin,Accept"
    for unchanged in (original, other):
        assert [*unchanged.get_all()] == [("Vary", "Origin"), ("Server", "x"), ("Date", "now")]


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: b", "a\nb", "a\rb", "a\r\n"])
def test_header_with_a_line_end_is_not_encoded(value: str) -> None:
    with pytest.raises(ValueError, match="CR or LF"):
        encode_headers(HTTPHeaders({"X-First": "1", "X-Second": value}))


def test_header_lines_keep_their_order() -> None:
    headers = HTTPHeaders({"B": "1", "A": "\xe9"})
    headers.add("B", "2")
    assert encode_headers(headers) == b"B: 1\r\nB: 2\r\nA: \xe9\r\n"
