"""The headers that the responses of all handlers have."""

from tornado.httputil import HTTPHeaders

from tornado_members.http.common_headers import CommonHeaders
from tornado_members.settings import Cors

ALLOWED = "https://app.example"


def test_allowed_origin_is_named_and_any_other_is_not() -> None:
    headers = CommonHeaders(Cors(origins=[ALLOWED]))
    for origin, named in ((ALLOWED, ALLOWED), ("https://evil.example", None), (None, None)):
        request = HTTPHeaders({"Origin": origin} if origin else {})
        for _ in range(2):  # also of prepared headers
            made = headers.make(request, "id-1")
            assert made.get("Access-Control-Allow-Origin") == named
            assert made["Vary"] == "Origin"


def test_any_origin_is_allowed_also_an_empty_one() -> None:
    headers = CommonHeaders(Cors(origins=["*"]))
    for origin in (ALLOWED, ""):
        assert (
            headers.make(HTTPHeaders({"Origin": origin}), "")["Access-Control-Allow-Origin"] == "*"
        )
    assert "Access-Control-Allow-Origin" not in headers.make(HTTPHeaders(), "")


def test_responses_do_not_share_what_their_handlers_set() -> None:
    headers = CommonHeaders(Cors())
    first, second = (headers.make(HTTPHeaders(), request_id) for request_id in ("id-1", "id-2"))
    first["Content-Type"] = "text/csv"
    first.add("Vary", "Accept")
    del first["X-Frame-Options"]
    third = headers.make(HTTPHeaders(), "id-3")
    assert [headers["X-Request-Id"] for headers in (first, second, third)] == [
        "id-1",
        "id-2",
        "id-3",
    ]
    for one in (second, third):
        assert one["Content-Type"] == "text/html; charset=UTF-8"
        assert one["X-Frame-Options"] == "DENY"
        assert "Vary" not in one
