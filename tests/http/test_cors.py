"""CORS: off by default, and enabled for the origins in the settings."""

import pytest

from tests.support.api import Api, problem
from tests.support.cases import cases
from tests.support.wire import AnyServer, bare_connection
from tornado_members.settings import Cors, Settings

pytestmark = pytest.mark.shared_services

APP = "https://app.example.org"
PREFLIGHT = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "if-match"}


@pytest.fixture
def origins() -> tuple[str, ...]:
    return (APP, "http://localhost:3000")


@pytest.fixture
def settings(settings: Settings, origins: tuple[str, ...]) -> Settings:
    cors = Cors(origins=origins, request_headers=("X-Tenant",), max_age_seconds=60)
    return settings.model_copy(update={"cors": cors})


@pytest.mark.parametrize("origins", [()])
async def test_cors_is_off_by_default(api: Api) -> None:
    for method in ("GET", "OPTIONS"):
        answer = await api(method, "/members", headers={"Origin": APP, **PREFLIGHT})
        assert not [name for name in answer.headers if name.startswith("Access-Control")]
        assert "Origin" not in answer.headers.get("Vary", "")


async def test_preflight_lists_methods_and_headers(api: Api) -> None:
    answer = await api("OPTIONS", "/members/1", rights=None, headers={"Origin": APP, **PREFLIGHT})
    assert answer.code == 204
    assert answer.headers["Access-Control-Allow-Origin"] == APP
    assert "PATCH" in answer.headers["Access-Control-Allow-Methods"]
    assert {"Authorization", "If-Match", "Content-Type"} <= set(
        answer.headers["Access-Control-Allow-Headers"].split(", ")
    )
    assert answer.headers["Access-Control-Max-Age"] == "60"
    assert answer.headers["Vary"] == "Origin"


async def test_response_exposes_its_headers_to_the_origin(api: Api) -> None:
    await api.create("Ada")
    answer = await api("GET", "/members/1", headers={"Origin": APP})
    assert answer.headers["Access-Control-Allow-Origin"] == APP
    assert "ETag" in answer.headers["Access-Control-Expose-Headers"].split(", ")
    assert "Access-Control-Allow-Credentials" not in answer.headers
    assert answer.headers.get_list("Vary") == ["Origin, Authorization, Accept"]


@cases(
    ("path", "status"),
    [("/members/99", 404), ("/nothing", 404), ("/members/by-name/%ff", 400), ("/%ff", 404)],
)
async def test_errors_are_readable_by_the_origin(api: Api, path: str, status: int) -> None:
    answer = await api("GET", path, headers={"Origin": APP})
    assert answer.code == status
    assert answer.headers["Access-Control-Allow-Origin"] == APP
    assert answer.headers["Vary"].split(",")[0] == "Origin"
    refused = await api("GET", "/members", rights=None, headers={"Origin": APP})
    problem(refused, 401, "token-missing")
    assert refused.headers["Access-Control-Allow-Origin"] == APP


@cases("origin", ["https://evil.example", "null", f"{APP}.evil.example", APP + ":444"])
async def test_other_origins_receive_no_cors_headers(api: Api, origin: str) -> None:
    for method in ("GET", "OPTIONS"):
        answer = await api(method, "/members", headers={"Origin": origin, **PREFLIGHT})
        assert not [name for name in answer.headers if name.startswith("Access-Control")]
        assert "Origin" in answer.headers["Vary"]


@pytest.mark.parametrize("origins", [("*",)])
async def test_star_allows_every_origin(api: Api) -> None:
    for origin in (APP, "null"):
        answer = await api("GET", "/members", headers={"Origin": origin})
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert "Origin" not in answer.headers["Vary"]


async def test_preflight_allows_the_headers_in_the_settings(api: Api) -> None:
    answer = await api("OPTIONS", "/members", headers={"Origin": APP, **PREFLIGHT})
    allowed = answer.headers["Access-Control-Allow-Headers"].split(", ")
    assert {"Authorization", "If-Match", "X-Tenant"} <= set(allowed)


def test_setting_refuses_what_is_not_the_name_of_a_header() -> None:
    for name in ("", "X Tenant", "X-Tenant:", "a,b", "é"):
        with pytest.raises(ValueError, match="should be the name"):
            Cors(request_headers=(name,))


async def test_options_for_the_whole_server_is_204(api: Api, http_server: AnyServer) -> None:
    for path in ("*", "/"):
        async with bare_connection(http_server) as (reader, writer):
            writer.write(f"OPTIONS {path} HTTP/1.0\r\n\r\n".encode())
            answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 204 "), path
        assert b"\r\nAllow: GET, HEAD, PUT, POST, PATCH, DELETE, OPTIONS\r\n" in answer
    problem(await api("OPTIONS", "/nothing"), 404, "not-found")
    problem(await api("GET", "/"), 404, "not-found")


@pytest.mark.parametrize(
    "origin",
    ["app.example.org", "https://App.example.org", f"{APP}/", f"{APP}:443", "null", "https://*"],
)
def test_setting_refuses_origins_that_no_browser_sends(origin: str) -> None:
    with pytest.raises(ValueError, match="should be"):
        Cors(origins=(origin,))


@cases("path", ["/members", "/members/1", "/nothing", "/members/by-name/x"])
async def test_every_response_has_the_security_headers(api: Api, path: str) -> None:
    for method in ("GET", "OPTIONS", "BREW"):
        headers = (await api(method, path)).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert "Server" not in headers
