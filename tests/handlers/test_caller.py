"""GET /caller: who the caller is, and what its token allows."""

import pytest

from tests.support.api import Api, parsed, problem
from tests.support.tokens import ISSUER, make_token
from tornado_members.settings import Settings

pytestmark = pytest.mark.shared_services


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """The issuer names the caller's own member."""
    issuer = settings.auth.issuers[0].model_copy(update={"member_claim": ("member",)})
    auth = settings.auth.model_copy(update={"issuers": (issuer,)})
    return settings.model_copy(update={"auth": auth})


async def test_caller_has_the_permissions_of_its_token(api: Api) -> None:
    for claims, permissions, member_id in (
        ({"access_rights": 1}, ["members:read"], None),
        ({"access_rights": 3}, ["members:delete", "members:read", "members:write"], None),
        ({"scope": "members:read:own", "member": 7}, ["members:read:own"], 7),
        ({"scope": "members:read", "access_rights": 0}, [], None),  # blocked
        ({}, [], None),
    ):
        headers = {"Authorization": f"Bearer {make_token(**claims)}"}
        for method in ("GET", "HEAD"):
            found = await api(method, "/caller", headers=headers)
            assert (found.code, found.headers["Cache-Control"]) == (200, "no-store")
        assert parsed(await api("GET", "/caller", headers=headers)) == {
            "issuer": ISSUER,
            "subject": "somebody",
            "permissions": permissions,
            "memberId": member_id,
        }


async def test_caller_needs_a_valid_token_and_takes_no_parameters(api: Api) -> None:
    problem(await api("GET", "/caller", rights=None), 401, "token-missing")
    forged = {"Authorization": f"Bearer {make_token()}x"}
    problem(await api("GET", "/caller", headers=forged), 401, "token-invalid")
    problem(await api("GET", "/caller?x=1"), 400, "bad-parameter")
    problem(await api("POST", "/caller"), 405, "method-not-allowed")


class TestRateLimit:
    """The requests count like any others."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        limit = settings.rate_limit.model_copy(update={"requests_per_minute": 2})
        return settings.model_copy(update={"rate_limit": limit})

    async def test_caller_counts_against_the_rate_limit(self, api: Api) -> None:
        headers = {"Authorization": f"Bearer {make_token(sub='frequent')}"}
        codes = [(await api("GET", "/caller", headers=headers)).code for _ in range(5)]
        assert codes[:2] == [200, 200]
        assert codes[-1] == 429
