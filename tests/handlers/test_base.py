"""The steps of every request: method, caller, problem details, request id."""

from typing import Any

import pytest

from tests.support.api import Api, problem
from tests.support.cases import cases
from tests.support.tokens import make_token
from tests.support.wire import AnyServer, bare_connection, on_both
from tornado_members.services import Services

pytestmark = pytest.mark.shared_services

PATHS = ["/members", "/members/1", "/members/by-name/Ada"]
METHODS = ["GET", "HEAD", "PUT", "POST", "DELETE", "PATCH"]
ALLOWED = {
    "/members": "GET, HEAD, PUT, POST, OPTIONS",
    "/members/1": "GET, HEAD, PUT, PATCH, DELETE, OPTIONS",
    "/members/by-name/Ada": "GET, HEAD, PUT, OPTIONS",
}
NEEDED = {"GET": 1, "HEAD": 1, "PUT": 2, "POST": 2, "PATCH": 2, "DELETE": 3}


def pairs() -> list[tuple[str, str]]:
    """Return every method of every path."""
    return [(m, path) for path in PATHS for m in METHODS if m in ALLOWED[path].split(", ")]


@cases(("method", "path"), pairs())
async def test_method_needs_its_permission(api: Api, method: str, path: str) -> None:
    none = await api(method, path, rights=None)
    assert none.code == 401
    assert none.headers["WWW-Authenticate"] == 'Bearer realm="members"'
    for rights in range(4):
        answer = await api(method, path, {"name": "Ada"} if "P" in method else None, rights=rights)
        if rights < NEEDED[method]:
            assert answer.code == 403
            challenge = answer.headers["WWW-Authenticate"]
            assert 'error="insufficient_scope", scope="members:' in challenge
        else:
            assert answer.code not in (401, 403)


async def test_refused_write_changes_nothing(api: Api) -> None:
    await api.create("Ada")
    for rights in (None, 0, 1):
        await api("PUT", "/members/1", {"name": "Eve"}, rights=rights)
    await api("DELETE", "/members/1", rights=2)
    assert b'"Ada"' in (await api("GET", "/members/1")).body


NO_CREDENTIALS = [
    "",
    "Bearer",
    "Basic YTpi",
    "Bearer  ",
    "bearer x.y.z",
    "Bearer a b",
    "Bearer \xff\xfe",
]


async def test_invalid_credentials_are_401(api: Api, subtests: pytest.Subtests) -> None:
    for credentials in NO_CREDENTIALS:
        with subtests.test(credentials=credentials):
            answer = await api(
                "GET", "/members/1", rights=None, headers={"Authorization": credentials}
            )
            assert answer.code == 401
            assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
            if credentials.lower().startswith("bearer "):
                found = problem(answer, 401, "token-invalid")
                assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]
                assert found["detail"].startswith("The token ")


async def test_authorization_scheme_is_case_insensitive(api: Api) -> None:
    headers = {"Authorization": f"bEaReR   {make_token(scope='members:read')}"}
    assert (await api("GET", "/members", rights=None, headers=headers)).code == 200


@pytest.mark.parametrize("path", PATHS)
async def test_options_lists_the_methods_without_credentials(api: Api, path: str) -> None:
    answer = await api("OPTIONS", path, rights=None)
    assert (answer.code, answer.body) == (204, b"")
    assert answer.headers["Allow"] == ALLOWED[path]


@on_both
async def test_unsupported_method_is_405_with_allow(api: Api, subtests: pytest.Subtests) -> None:
    others = [(m, p) for m in ("PATCH", "TRACE", "FOO", "POST", "DELETE") for p in PATHS]
    refused = [(m, p) for m, p in others if m not in ALLOWED[p].split(", ")]
    assert len(refused) == 12
    for method, path in refused:
        with subtests.test(method=method, path=path):
            answer = await api(method, path)
            problem(answer, 405, "method-not-allowed")
            assert answer.headers["Allow"] == ALLOWED[path]


NO_PATHS = ["/", "/nothing", "/members/", "/members/1/", "/members/1/x", "/Members", "/members//"]


@on_both
async def test_unknown_path_is_404(api: Api, subtests: pytest.Subtests) -> None:
    for path in NO_PATHS:
        with subtests.test(path=path):
            for method in ("GET", "PUT", "DELETE", "OPTIONS", "TRACE", "FOO"):
                if (method, path) != ("OPTIONS", "/"):  # it concerns the whole server
                    problem(await api(method, path, rights=None), 404, "not-found")


async def test_internal_error_is_a_500_without_details(
    api: Api, services: Services, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("the secret is 42")

    monkeypatch.setattr(type(services.directory), "get", fail)
    answer = await api("GET", "/members/1", headers={"X-Request-Id": "trace-me"})
    problem(answer, 500, "internal-error")
    assert b"secret" not in answer.body
    assert "the secret is 42" in caplog.text
    (failed,) = [record for record in caplog.records if record.exc_info]
    assert vars(failed)["fields"] == {"request_id": "trace-me", "route": "/members/{memberId}"}


@on_both
async def test_request_id_is_accepted_if_it_is_valid(api: Api) -> None:
    answer = await api("GET", "/members", headers={"X-Request-Id": "abc-123:x/y"})
    assert answer.headers["X-Request-Id"] == "abc-123:x/y"
    for insane in ("a b", "x" * 129, '"<script>', "ä"):
        headers = (await api("GET", "/members", headers={"X-Request-Id": insane})).headers
        assert len(headers["X-Request-Id"]) == 32
    first, second = [(await api("GET", "/members")).headers["X-Request-Id"] for _ in range(2)]
    assert first != second


async def test_response_has_no_server_header_and_forbids_sniffing(api: Api) -> None:
    for path in ("/members", "/nothing"):
        answer = await api("GET", path)
        assert "Server" not in answer.headers
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "x"])
async def test_unsupported_media_type_is_415(api: Api, content_type: str) -> None:
    headers = {"Content-Type": content_type}
    answer = await api("PUT", "/members", {"name": "Ada"}, headers=headers)
    problem(answer, 415, "unsupported-media-type")


@pytest.mark.parametrize(
    "content_type", ["application/json", "application/json; charset=utf-8", "APPLICATION/JSON"]
)
async def test_json_media_type_is_accepted_in_any_form(api: Api, content_type: str) -> None:
    answer = await api("PUT", "/members", {"name": "Ada"}, headers={"Content-Type": content_type})
    assert answer.code == 201


@pytest.mark.parametrize(
    "content_type", ["multipart/form-data", "multipart/form-data; boundary=", "multipart/x"]
)
async def test_form_bodies_are_not_read(api: Api, content_type: str) -> None:
    """Reading a body takes time, and the caller is not authenticated yet."""
    headers = {"Content-Type": content_type}
    for rights, path, status in (
        (None, "/nope", 404),
        (None, "/members", 401),
        (3, "/members", 415),
    ):
        answer = await api("PUT", path, raw=b"--\r\n\r\n", headers=headers, rights=rights)
        assert answer.code == status
        assert answer.headers["Content-Type"] == "application/problem+json"


async def test_byte_order_mark_before_a_json_body_is_ignored(api: Api) -> None:
    created = await api("PUT", "/members", raw=b'\xef\xbb\xbf{"name": "Ada"}')
    assert created.code == 201
    merge = {"Content-Type": "application/merge-patch+json"}
    patched = await api("PATCH", "/members/1", raw=b'\xef\xbb\xbf{"phone": "123"}', headers=merge)
    assert patched.code == 200
    twice = await api("PUT", "/members", raw=b'\xef\xbb\xbf\xef\xbb\xbf{"name": "Eve"}')
    problem(twice, 400, "malformed-body")


async def test_body_with_a_content_encoding_is_415(api: Api) -> None:
    body, headers = {"name": "Ada"}, {"Content-Encoding": "gzip"}
    problem(await api("PUT", "/members", body, headers=headers), 415, "unsupported-media-type")
    assert (
        await api("PUT", "/members", body, headers={"Content-Encoding": "identity"})
    ).code == 201


@on_both
async def test_path_that_is_not_percent_encoded_is_400(http_server: AnyServer) -> None:
    """Tornado would decode its bytes as Latin-1, and store another name than was sent."""
    async with bare_connection(http_server) as (reader, writer):
        token = make_token(access_rights=3).encode()
        path = "/members/by-name/Zoë".encode()
        writer.write(
            b"PUT %b HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\n"
            b"Content-Length: 2\r\nConnection: close\r\n\r\n{}" % (path, token)
        )
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'"bad-request"' in answer
