"""Tokens as identity providers issue them, by the settings of docs/identity-providers.md."""

import copy
import json
import re
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jwt
import pytest
import yaml

from tests.support.service import ROOT
from tests.support.tokens import make_token, private_key, public_jwk, verify
from tornado_members.auth.caller import Caller
from tornado_members.auth.key_set import parse_key_set
from tornado_members.auth.keys import FixedKeys
from tornado_members.auth.tokens import TokenVerifier
from tornado_members.errors import TokenInvalid
from tornado_members.settings import Auth

READ, WRITE = "members:read", "members:write"
EVERYTHING = ["members:read", "members:write", "members:delete"]
SECTION = re.compile(r"^## (.+?)\n(.*?)(?=^## |\Z)", re.DOTALL | re.MULTILINE)
BLOCK = re.compile(r"^```(yaml|json)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def read_page() -> dict[str, tuple[list[dict[str, Any]], dict[str, Any]]]:
    """Return the settings and the token of each provider."""
    text = (ROOT / "docs" / "identity-providers.md").read_text()
    found = {}
    for title, section in SECTION.findall(text):
        blocks = dict(BLOCK.findall(section))
        if blocks:
            found[title] = (yaml.safe_load(blocks["yaml"]), json.loads(blocks["json"]))
    return found


PAGE = read_page()
CASES = json.loads((Path(__file__).parent / "identity_providers.json").read_text())["tokens"]
GROUPS = [str(uuid.UUID(int=number)) for number in range(157)]


def verifier_of(
    entries: Sequence[Mapping[str, Any]], jwks: Sequence[Mapping[str, Any]], **auth: Any
) -> TokenVerifier:
    issuers = [{"jwks": {"keys": []}, **entry} for entry in entries]
    settings = Auth.model_validate({"issuers": issuers, **auth})
    keys = FixedKeys(parse_key_set(jwks, "test"))
    return TokenVerifier(settings, {entry.issuer: keys for entry in settings.issuers})


def sign(token: Mapping[str, Any], claims: Mapping[str, Any], algorithm: str = "RS256") -> str:
    """A token of this shape; a claim of None is omitted."""
    header = token["header"]
    kid = {"kid": header.get("kid")}
    return make_token(
        algorithm,
        headers={"typ": None, **header, **kid},
        **{"sub": None, "jti": None, "aud": None, **token["claims"], **claims},
    )


def caller_of(provider: str, token: Mapping[str, Any], **claims: Any) -> Caller:
    """The caller of a token of this shape, with the settings of this provider."""
    entries, _ = PAGE[provider]
    jwk = {**public_jwk("RS256"), "kid": token["header"].get("kid")}
    return verify(verifier_of(entries, [jwk]), sign(token, claims))


# The provider, a token (of the page or of the file), other claims, and the permissions granted.
ROWS: list[tuple[str, str | None, dict[str, Any], set[str]]] = [
    ("Keycloak", None, {}, {READ}),
    ("Keycloak", None, {"realm_access": None, "resource_access": None}, set()),
    ("Keycloak", None, {"realm_access": {"roles": "members-reader"}}, {READ}),
    ("Keycloak", None, {"realm_access": [], "resource_access": {"members": []}}, set()),
    ("Keycloak", "keycloak-user-scope", {}, {READ}),
    ("Keycloak", "keycloak-roles-only", {"resource_access": None}, {READ}),
    ("Keycloak", "keycloak-roles-only", {"realm_access": {"roles": ["members-readers"]}}, {READ}),
    ("Auth0", None, {}, {READ, WRITE}),
    ("Auth0", None, {"permissions": "members:read"}, {READ}),
    ("Auth0", None, {"permissions": [], "https://example.org/roles": ["admin"]}, {READ, WRITE}),
    ("Auth0", None, {"permissions": ["members:delete"], "access_rights": 3}, set()),
    ("Auth0", "auth0-rbac", {}, {READ, WRITE}),
    ("Auth0", "auth0-machine", {}, {READ}),
    ("Microsoft Entra ID, v2 tokens", None, {}, {READ, WRITE}),
    ("Microsoft Entra ID, v2 tokens", "azure-v2-delegated", {}, {READ, WRITE}),
    ("Microsoft Entra ID, v2 tokens", "azure-v2-app", {}, {READ}),
    ("Microsoft Entra ID, v2 tokens", "azure-v2-app", {"roles": ["Members.Write.All"]}, set()),
    ("Microsoft Entra ID, v2 tokens", "azure-157-groups", {"groups": GROUPS}, {READ}),
    ("Microsoft Entra ID, v1 tokens", None, {}, {READ}),
    ("Microsoft Entra ID, v1 tokens", None, {"roles": ["Members.Read.All"], "scp": ""}, set()),
    (
        "Microsoft Entra ID, v1 tokens",
        None,
        {"aud": "6e74172b-be56-4843-9ff4-e66a39bb12e3", "roles": ["Members.Read.All"]},
        {READ},
    ),
    ("Okta", None, {}, {READ}),
    ("Okta", "okta-access", {"groups": ["Everyone", "members-readers"], "scp": []}, {READ}),
    ("Okta", "okta-access", {"scp": ["members:read members:write"]}, set()),
    ("Amazon Cognito", None, {}, {READ}),
    ("Amazon Cognito", None, {"scope": "openid", "cognito:groups": ["readers"]}, {READ}),
    ("Amazon Cognito", None, {"scope": "members/delete"}, set()),
    ("Google", None, {}, {READ}),
    ("Google", None, {"email_verified": False}, set()),
    ("Google", None, {"email": '"crm@acme.iam.gserviceaccount.com x"@evil.example'}, set()),
    ("Google", None, {"email": '"x crm@acme.iam.gserviceaccount.com x"@evil.example'}, set()),
    ("Google", None, {"email": None, "sub": "104029292853099978293"}, {READ}),
    ("Google", None, {"email": ["crm@acme.iam.gserviceaccount.com"]}, {READ}),
    ("Google", None, {"email_verified": "false"}, set()),
    ("Google", None, {"email_verified": None}, {READ}),
    ("Firebase", None, {}, {READ}),
    ("Firebase", None, {"membersLevel": 2}, {READ, WRITE}),
    ("Firebase", None, {"membersRole": None, "membersLevel": 2.0}, set()),
    ("Firebase", None, {"membersRole": None, "membersLevel": True}, set()),
    ("GitHub Actions", None, {}, {READ}),
    ("GitHub Actions", "github-actions", {}, {READ}),
    ("GitHub Actions", None, {"sub": "repo:octo-org/octo-repo:ref:refs/heads/main"}, set()),
    ("GitHub Actions", None, {"sub": "x repo:octo-org/octo-repo:environment:prod"}, set()),
    ("GitLab CI", None, {}, {READ}),
    ("GitLab CI", None, {"sub": "project_path:acme/crm:ref_type:branch:ref:x"}, set()),
    ("Kubernetes service accounts", None, {}, {READ}),
    ("Kubernetes service accounts", None, {"sub": "system:serviceaccount:crm:crm2"}, set()),
    (
        "Kubernetes service accounts",
        None,
        {"sub": "system:serviceaccount:reports:x", "kubernetes.io": {"namespace": "reports"}},
        {READ},
    ),
    ("Ory Hydra", None, {}, {READ}),
    ("Ory Hydra", "hydra", {"scp": [], "ext": {"role": "reader"}}, {READ}),
    ("Ory Hydra", "hydra", {"scp": {"members:read": True}, "ext": ["reader"]}, set()),
    ("Zitadel", None, {}, {READ}),
    (
        "Zitadel",
        None,
        {"urn:zitadel:iam:org:project:roles": {"reader": {"999": "acme.zitadel.cloud"}}},
        set(),
    ),
    ("authentik", None, {}, {READ}),
    ("authentik", None, {"groups": ["staff"]}, set()),
    ("Dex", None, {}, {READ}),
    ("Dex", None, {"groups": [], "email_verified": False}, set()),
    ("Ping", None, {}, {READ}),
    ("Ping", None, {"scope": ["members:read", "members:write"]}, {READ, WRITE}),
    ("Any OpenID provider", None, {}, {READ}),
    ("Any OpenID provider", None, {"scope": "members:delete", "access_rights": 3}, {READ}),
]


@pytest.mark.parametrize(("provider", "case", "claims", "granted"), ROWS)
def test_token_of_a_provider_grants_the_documented_permissions(
    provider: str, case: str | None, claims: dict[str, Any], granted: set[str]
) -> None:
    entries, shown = PAGE[provider]
    token = copy.deepcopy(CASES[case] if case else shown)
    token["claims"]["iss"] = entries[0]["issuer"]
    caller = caller_of(provider, token, **claims)
    assert caller.permissions == granted
    assert caller.issuer == token["claims"]["iss"]


@pytest.mark.parametrize("provider", PAGE)
def test_token_of_a_provider_for_another_audience_is_refused(provider: str) -> None:
    _, token = PAGE[provider]
    assert any(row[0] == provider for row in ROWS)
    for claims in (
        {"aud": "somebody-else", "client_id": "somebody-else", "azp": "somebody-else"},
        {"aud": None, "client_id": None, "azp": None},
        {"iss": token["claims"]["iss"] + "x"},
        {"cnf": {"jkt": "0ZcO"}},
        {"sub": None},
    ):
        with pytest.raises(TokenInvalid):
            caller_of(provider, token, **claims)


ENTRY: dict[str, Any] = {"issuer": "https://mixed.example.org", "audience": "members"}


def test_at_most_caps_the_permissions_of_any_token() -> None:
    entry = {**ENTRY, "permissions": {"at_most": [READ]}}
    own: dict[str, Any] = {"issuer": "https://own.example.org", "audience": "members"}
    verifier = verifier_of([entry, own], [public_jwk("RS256")])
    everything: dict[str, Any] = {
        "access_rights": 3,
        "scope": " ".join(EVERYTHING),
        "scp": EVERYTHING,
        "roles": EVERYTHING,
        "permissions": EVERYTHING,
        "at_most": EVERYTHING,
        "generation": 10**6,
        "aud": "members",
    }
    for iss, granted in ((ENTRY["issuer"], {READ}), (own["issuer"], set(EVERYTHING))):
        caller = verify(verifier, make_token(iss=iss, **everything))
        assert caller.permissions == granted


def test_token_without_sub_uses_another_claim_as_subject() -> None:
    entries, _ = PAGE["Keycloak"]
    lightweight = [{**entries[0], "subject_claim": "azp"}]
    token = CASES["keycloak-without-sub"]
    verifier = verifier_of(lightweight, [{**public_jwk("RS256"), "kid": "FJ86"}])
    assert verify(verifier, sign(token, {})).subject == "crm"
    with pytest.raises(TokenInvalid, match="lacks the claim azp"):
        verify(verifier, sign(token, {"azp": None, "sub": "crm"}))
    nested = verifier_of([{**entries[0], "subject_claim": ["act", "sub"]}], [public_jwk("RS256")])
    assert (
        verify(
            nested,
            sign(
                {"header": {}, "claims": {}},
                {"iss": entries[0]["issuer"], "aud": "members", "act": {"sub": "ada"}},
            ),
        ).subject
        == "ada"
    )


def test_caller_without_a_member_has_no_permission_for_its_own() -> None:
    scope = "members:read:own members:write:own members:read"
    entry = {**ENTRY, "member_claim": ["ext", "member"]}
    for member, granted in ((7, set(scope.split())), (None, {READ}), ("x", {READ})):
        claims = {"iss": ENTRY["issuer"], "aud": "members", "scope": scope}
        caller = verify(
            verifier_of([entry], [public_jwk("RS256")]),
            make_token(**claims, ext={"member": member}),
        )
        assert caller.permissions == granted
        assert caller.member_id == (7 if member == 7 else None)
    unnamed = verifier_of([ENTRY], [public_jwk("RS256")])
    token = make_token(iss=ENTRY["issuer"], aud="members", scope=scope, member_id=7)
    assert verify(unnamed, token).permissions == {READ}


def test_client_ids_replace_the_audience_of_tokens_without_aud() -> None:
    entry: dict[str, Any] = {"issuer": "https://pool.example.org", "client_ids": ["one", "two"]}
    verifier = verifier_of([entry], [public_jwk("RS256")])
    good: dict[str, Any] = {"iss": entry["issuer"], "aud": None}
    accepted: list[dict[str, Any]] = [
        {"client_id": "one"},
        {"azp": "two"},
        {"client_id": "two", "azp": "three"},
    ]
    for claims in accepted:
        assert verify(verifier, make_token(**good, **claims)).subject == "somebody"
    refused: list[dict[str, Any]] = [
        {},
        {"client_id": "three", "azp": "one"},
        {"client_id": ["one"]},
        {"client_id": 1},
        {"client_id": "on"},
        {"azp": ["one"]},
        {"client_id": "one", "aud": "one"},
        {"client_id": "one", "aud": []},
    ]
    for claims in refused:
        with pytest.raises(TokenInvalid):
            verify(verifier, make_token(**{**good, **claims}))


def test_issuer_may_be_listed_for_several_audiences() -> None:
    """Each entry has its permissions, algorithms and lifetime, and may have its own keys."""
    issuer = "https://twice.example.org"
    entries: list[dict[str, Any]] = [
        {"issuer": issuer, "audience": "reading", "permissions": {"always": [READ]}},
        {
            "issuer": issuer,
            "audience": ["writing", "both"],
            "algorithms": ["ES256"],
            "max_lifetime_seconds": 60,
            "permissions": {"always": [WRITE]},
            "jwks": {"keys": [public_jwk("ES256")]},
        },
        {"issuer": issuer, "audience": "both", "permissions": {"always": [READ, WRITE]}},
    ]
    settings = Auth.model_validate(
        {"issuers": [{"jwks": {"keys": [public_jwk("RS256")]}, **entry} for entry in entries]}
    )
    first = FixedKeys(parse_key_set([public_jwk("RS256")], "test"))
    second = FixedKeys(parse_key_set([public_jwk("ES256")], "test"))
    verifier = TokenVerifier(settings, {issuer: first, f"{issuer} (2)": second})

    def granted(algorithm: str, audience: Any, seconds: int = 60) -> set[str]:
        token = make_token(algorithm, iss=issuer, aud=audience)
        now = jwt.decode(token, options={"verify_signature": False})["iat"]
        token = make_token(algorithm, iss=issuer, aud=audience, iat=now, exp=now + seconds)
        return set(verify(verifier, token).permissions)

    assert granted("RS256", "reading") == {READ}
    assert granted("ES256", "writing") == {WRITE}
    assert granted("RS256", "both") == {READ, WRITE}  # the second entry refuses its algorithm
    assert granted("ES256", "both") == {WRITE}
    assert granted("RS256", ["reading", "both"]) == {READ}  # the first entry that accepts it
    for algorithm, audience, seconds in (
        ("RS256", "writing", 60),
        ("ES256", "reading", 60),
        ("ES256", "writing", 61),
        ("RS256", "other", 60),
    ):
        with pytest.raises(TokenInvalid):
            granted(algorithm, audience, seconds)


@pytest.mark.parametrize(
    ("algorithm", "key"),
    [
        *((f"{family}{bits}", "RS256") for family in ("RS", "PS") for bits in (256, 384, 512)),
        *((f"ES{bits}", f"ES{bits}") for bits in (256, 384, 512)),
        ("EdDSA", "EdDSA"),
    ],
)
def test_algorithm_verifies_only_where_it_is_accepted(algorithm: str, key: str) -> None:
    claims = {"iss": ENTRY["issuer"], "aud": "members", "sub": "x", "iat": 1, "exp": 2}
    claims |= {"iat": (now := jwt.decode(make_token(), options={"verify_signature": False})["iat"])}
    claims |= {"exp": now + 60}
    token = jwt.encode(claims, private_key(key), algorithm, headers={"kid": "k"})
    jwk = {name: value for name, value in public_jwk(key).items() if name != "alg"} | {"kid": "k"}
    accepting = verifier_of([{**ENTRY, "algorithms": [algorithm]}], [jwk])
    assert verify(accepting, token).subject == "x"
    others = [name for name in ("RS256", "PS512", "ES384", "EdDSA") if name != algorithm]
    with pytest.raises(TokenInvalid, match="algorithm"):
        verify(verifier_of([{**ENTRY, "algorithms": others}], [jwk]), token)
    fixed = {**jwk, "alg": next(name for name in ("RS384", "PS384") if name != algorithm)}
    if key == "RS256":  # a key for another algorithm of its type
        with pytest.raises(TokenInvalid):
            verify(verifier_of([{**ENTRY, "algorithms": [algorithm]}], [fixed]), token)


def test_key_set_of_every_kind_verifies_with_the_supported_keys() -> None:
    foreign = [
        {"kty": "OKP", "crv": "X25519", "x": "A" * 43, "kid": "x", "use": "enc"},
        {"kty": "AKP", "alg": "ML-DSA-65", "kid": "pq", "pub": "AAAA"},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "hmac"},
    ]
    usable = [
        {**{k: v for k, v in public_jwk(name).items() if k != "alg"}, "kid": name}
        for name in ("ES512", "ES256", "EdDSA", "RS256")
    ]
    verifier = verifier_of([ENTRY], [*foreign, *usable])
    token = CASES["mixed-keys"]
    assert caller_named(verifier, token, kid="RS256").permissions == {READ}
    assert caller_named(verifier, CASES["no-kid-one-fits"], kid=None).permissions == {READ}
    with pytest.raises(TokenInvalid):
        caller_named(verifier, token, kid="hmac")


def caller_named(verifier: TokenVerifier, token: Mapping[str, Any], kid: str | None) -> Caller:
    named = {"header": {**token["header"], "kid": kid}, "claims": token["claims"]}
    return verify(verifier, sign(named, {"iss": ENTRY["issuer"]}))


def test_sender_constrained_tokens_are_refused_unless_that_is_ignored() -> None:
    token = CASES["dpop"]
    jwk = {**public_jwk("RS256"), "kid": "r1"}
    with pytest.raises(TokenInvalid, match="bound to a key"):
        verify(verifier_of([ENTRY], [jwk]), sign(token, {}))
    ignoring = verifier_of([ENTRY], [jwk], sender_constrained="ignore")
    assert verify(ignoring, sign(token, {})).permissions == {READ}


@pytest.mark.parametrize(
    ("types", "typ", "accepted"),
    [
        (["JWT", "at+jwt"], None, True),
        (["JWT", "at+jwt"], "application/at+JWT", True),
        (["at+jwt"], "JWT", False),
        ("secevent+jwt", "SecEvent+JWT", True),
        ("secevent+jwt", "jwt", False),
        (["JWT"], "application/", False),
        (["JWT"], "JWT ", False),
    ],
)
def test_token_types_of_an_issuer_restrict_its_tokens(
    types: Any, typ: str | None, accepted: bool
) -> None:
    verifier = verifier_of([{**ENTRY, "token_types": types}], [public_jwk("RS256")])
    token = make_token(iss=ENTRY["issuer"], aud="members", headers={"typ": typ})
    if accepted:
        assert verify(verifier, token).subject
    else:
        with pytest.raises(TokenInvalid, match="type"):
            verify(verifier, token)


def test_token_size_has_its_own_limit() -> None:
    verifier = verifier_of([ENTRY], [public_jwk("RS256")], max_token_bytes=1024)
    token = make_token(iss=ENTRY["issuer"], aud="members")
    assert verify(verifier, token).subject
    assert verifier.get_cached(token)
    large = make_token(iss=ENTRY["issuer"], aud="members", padding="x" * 1024)
    with pytest.raises(TokenInvalid, match="longer than 1024 bytes"):
        verify(verifier, large)
    assert verifier.get_cached(large) is None
