"""What claims allow."""

from typing import Any

import pytest

from tornado_members.auth.permissions import GrantTable
from tornado_members.settings import Permissions

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
def test_what_claims_allow(claims: dict[str, Any], allowed: set[str]) -> None:
    assert GrantTable.compile(None, Permissions()).granted(claims) == allowed


def test_the_table_is_the_settings() -> None:
    common = Permissions.model_validate(
        {"access_rights": {7: [READ]}, "scope": {"admin": [DELETE]}}
    )
    table = GrantTable.compile(None, common)
    assert table.granted({"access_rights": 7}) == {READ}
    assert table.granted({"access_rights": 3}) == set()
    assert table.granted({"scope": "admin members:read"}) == {DELETE}
