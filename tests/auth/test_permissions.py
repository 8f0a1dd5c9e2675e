"""The permissions that claims grant."""

from typing import Any

import pytest

from tornado_members.auth.permissions import GrantTable
from tornado_members.settings import IssuerPermissions, Permissions

READ, WRITE, DELETE = "members:read", "members:write", "members:delete"


@pytest.mark.parametrize(
    ("claims", "allowed"),
    [
        ({}, set()),
        ({"access_rights": 0}, set()),
        ({"access_rights": 1}, {READ}),
        ({"access_rights": 2}, {READ, WRITE}),
        ({"access_rights": 3}, {READ, WRITE, DELETE}),
        ({"access_rights": 4}, set()),
        ({"access_rights": -1}, set()),
        ({"access_rights": "3"}, set()),
        ({"access_rights": "3", "scope": "members:read"}, {READ}),
        ({"access_rights": 3.0}, set()),
        ({"access_rights": 3.0, "scope": "members:read"}, {READ}),
        ({"access_rights": True}, set()),
        ({"access_rights": True, "scope": "members:read"}, {READ}),
        ({"access_rights": [3]}, set()),
        ({"access_rights": [3], "scope": "members:read"}, {READ}),
        ({"scope": ""}, set()),
        ({"scope": "members:read"}, {READ}),
        ({"scope": "openid  members:read members:delete"}, {READ, DELETE}),
        ({"scope": ["members:read", "members:write"]}, {READ, WRITE}),
        ({"scope": "Members:Read members:*"}, set()),
        ({"scope": ["members:read members:write"]}, set()),
        ({"scope": [["members:read"], 7, None]}, set()),
        ({"scope": {"members:read": True}}, set()),
        ({"scope": 7}, set()),
        ({"scope": "members:delete", "access_rights": 1}, {READ, DELETE}),
        ({"scope": "members:read members:delete", "access_rights": 0}, set()),
    ],
)
def test_claims_grant_permissions(claims: dict[str, Any], allowed: set[str]) -> None:
    assert GrantTable.compile(None, Permissions()).granted(claims) == allowed


def test_permission_table_comes_from_the_settings() -> None:
    common = Permissions.model_validate(
        {"access_rights": {7: [READ]}, "scope": {"admin": [DELETE]}}
    )
    table = GrantTable.compile(None, common)
    assert table.granted({"access_rights": 7}) == {READ}
    assert table.granted({"access_rights": 3}) == set()
    assert table.granted({"scope": "admin members:read"}) == {DELETE}


@pytest.mark.parametrize(
    ("claim", "is_identity"),
    [
        *(("sub", True), ("email", True), ("https://example.org/email", True)),
        *(("cognito:username", True), ("scope", False), ("https://example.org/roles", False)),
        *(("cognito:groups", False), ("nickname", True), ("urn:x:Sub", True)),
    ],
)
def test_identity_claims_are_compared_as_a_whole(claim: str, is_identity: bool) -> None:
    own = IssuerPermissions.model_validate(
        {"claims": [{"claim": claim, "values": {"ada@example.org": [READ]}}]}
    )
    table = GrantTable.compile(own, Permissions())
    assert table.granted({claim: "ada@example.org"}) == {READ}
    words = table.granted({claim: '"x ada@example.org x"@evil.example'})
    assert words == (set() if is_identity else {READ})


@pytest.mark.parametrize(
    ("own", "claims", "allowed"),
    [
        ({}, {"scope": "members:read"}, {READ}),
        ({"at_most": [READ]}, {"access_rights": 3}, {READ}),
        ({"at_most": []}, {"access_rights": 3}, set()),
        ({"at_most": [READ]}, {"access_rights": 0, "scope": "members:read"}, set()),
        ({"always": [READ]}, {"access_rights": 3, "scope": "members:delete"}, {READ}),
        ({"always": [READ]}, {"access_rights": 0}, {READ}),
        ({"claims": []}, {"access_rights": 3, "scope": "members:read"}, set()),
        ({"claims": [], "always": [READ], "at_most": [READ, WRITE]}, {}, {READ}),
        (
            {"claims": [{"claim": "r", "values": {"w": [WRITE]}}], "always": [READ]},
            {"r": "w"},
            {READ, WRITE},
        ),
        (
            {"claims": [{"claim": "r", "values": {"a": [DELETE, READ]}}], "at_most": [READ]},
            {"r": ["a"]},
            {READ},
        ),
        ({"claims": [{"claim": "r", "values": {7: READ, "x": READ}}]}, {"r": 7}, {READ}),
        ({"claims": [{"claim": "r", "values": {7: READ}}]}, {"r": [7]}, set()),
        ({"claims": [{"claim": "r", "values": {"True": READ, "1": READ}}]}, {"r": True}, set()),
    ],
)
def test_issuer_may_have_its_own_permission_table(
    own: dict[str, Any], claims: dict[str, Any], allowed: set[str]
) -> None:
    table = GrantTable.compile(IssuerPermissions.model_validate(own), Permissions())
    assert table.granted(claims) == allowed
