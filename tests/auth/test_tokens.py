"""From a token to a caller. Each kind of invalid token has a row."""

import base64
import hmac
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st

from tests.support.tokens import (
    AUDIENCE,
    ISSUER,
    LIFETIME,
    make_token,
    private_key,
    public_jwk,
    verify,
)
from tornado_members.auth import tokens
from tornado_members.auth.caller import Caller
from tornado_members.auth.key_set import Key, KeySet, parse_key_set, secret_key_set
from tornado_members.auth.keys import FixedKeys, KeyState
from tornado_members.auth.tokens import MAX_CACHED, TokenVerifier
from tornado_members.errors import TokenInvalid
from tornado_members.settings import Auth

NOW = int(time.time())
OTHER = "https://other.example"


@pytest.fixture(scope="module")
def verifier() -> TokenVerifier:
    issuers = [
        {"issuer": ISSUER, "audience": AUDIENCE},
        {"issuer": OTHER, "audience": "other", "algorithms": ["ES256"]},
    ]
    key_sets = {
        ISSUER: [public_jwk(name) for name in ("RS256", "ES256", "EdDSA")],
        OTHER: [public_jwk("ES256", "other")],
    }
    parsed = {name: FixedKeys(parse_key_set(keys, name)) for name, keys in key_sets.items()}
    return TokenVerifier(Auth.model_validate({"issuers": issuers}), parsed)


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_verify_returns_the_subject_of_a_valid_token(
    verifier: TokenVerifier, algorithm: str
) -> None:
    caller = verify(verifier, make_token(algorithm, sub="ada", access_rights=2))
    assert (caller.issuer, caller.subject) == (ISSUER, "ada")
    assert caller.permissions == {"members:read", "members:write"}
    assert caller.may("members:write", 42)
    assert not caller.may("members:delete", 42)


def test_issuers_have_their_own_keys_audience_and_algorithms(verifier: TokenVerifier) -> None:
    claims: dict[str, Any] = {"iss": OTHER, "aud": "other", "scope": "members:read"}
    assert verify(verifier, make_token("ES256", "other", **claims)).issuer == OTHER
    for algorithm, key in (("ES256", "first"), ("RS256", "first")):
        with pytest.raises(TokenInvalid):
            verify(verifier, make_token(algorithm, key, **claims))
    with pytest.raises(TokenInvalid):
        verify(verifier, make_token("ES256", "other", aud="other"))


def encode(part: Any) -> str:
    data = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def signed(header: Any, claims: Any) -> str:
    """Sign any header and any claims, unchanged, with the right key."""
    text = f"{encode(header)}.{encode(claims)}"
    algorithm = jwt.get_algorithm_by_name("RS256")
    return f"{text}.{encode(algorithm.sign(text.encode(), private_key('RS256')))}"


HEADER = {"alg": "RS256", "kid": "RS256-first", "typ": "JWT"}
CLAIMS = {"iss": ISSUER, "aud": AUDIENCE, "sub": "eve", "iat": NOW, "exp": NOW + LIFETIME}


def under(**header: Any) -> str:
    """Valid claims under a different header."""
    return signed({k: v for k, v in {**HEADER, **header}.items() if v is not None}, CLAIMS)


def unsigned(**header: Any) -> str:
    return f"{encode({**HEADER, **header})}.{encode({**CLAIMS, 'access_rights': 3})}."


def signed_with_the_public_key(algorithm: str) -> str:
    """The oldest attack: the public key used as the secret of an HMAC (RFC 8725 §2.1)."""
    public = private_key("RS256").public_key()
    pem = public.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    text = f"{encode({**HEADER, 'alg': algorithm})}.{encode(CLAIMS)}"
    return f"{text}.{encode(hmac.digest(pem, text.encode(), 'sha256'))}"


def signed_as(signing: str, called: str) -> str:
    """Sign with one algorithm of the right key, and name another."""
    text = f"{encode({**HEADER, 'alg': called})}.{encode(CLAIMS)}"
    algorithm = jwt.get_algorithm_by_name(signing)
    return f"{text}.{encode(algorithm.sign(text.encode(), private_key('RS256')))}"


def tampered() -> str:
    header, _, signature = make_token(access_rights=1).split(".")
    return ".".join([header, make_token(access_rights=3).split(".")[1], signature])


def same_bits() -> str:
    """The same signature in another spelling: the last character has unused bits."""
    token = make_token()
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return token[:-1] + alphabet[alphabet.index(token[-1]) ^ 1]


GOOD = make_token()
STRANGER = public_jwk("RS256", "stranger")

# Each row names the section of RFC 8725 that warns of it, where there is one.
BAD_TOKENS: dict[str, str] = {
    # Not a token
    "empty": "",
    "no dots": "abc",
    "two parts": "a.b",
    "four parts": GOOD + ".x",
    "five parts, as in encryption": f"{GOOD}.x.y",
    "three parts of nothing": "..",
    "not ASCII": "ä.ö.ü",
    "a lone surrogate": "\ud800.a.b",
    "not base64": "!!!.???.***",
    "padding": GOOD + "=",
    "white space inside": GOOD.replace(".", ". ", 1),
    "a line break behind": GOOD + "\n",
    "standard base64": GOOD.rpartition(".")[0] + ".++//",
    "another spelling of the same bits": same_bits(),
    "too long": make_token(padding="x" * 13000),
    "header is a list": signed([], CLAIMS),
    "header is a string": signed("RS256", CLAIMS),
    "header is not JSON": signed(b"{alg:RS256}", CLAIMS),
    "header is not UTF-8": signed(b'{"alg":"RS256","kid":"\xff"}', CLAIMS),
    "claims are a list": signed(HEADER, []),
    "claims are a number": signed(HEADER, 7),
    "claims are not JSON": signed(HEADER, b"iss=me"),
    "claims are nested without end": signed(HEADER, b'{"a":' * 1200 + b"1" + b"}" * 1200),
    "a claim stands twice": signed(HEADER, json.dumps(CLAIMS)[:-1].encode() + b',"sub":"ada"}'),
    "a header stands twice": signed(json.dumps(HEADER)[:-1].encode() + b',"alg":"RS256"}', CLAIMS),
    # Algorithms (§2.1, §3.1, §3.2)
    "alg none": unsigned(alg="none"),
    "alg None": unsigned(alg="None"),
    "alg NONE with a signature": under(alg="NONE"),
    "alg is empty": under(alg=""),
    "alg is a number": under(alg=5),
    "alg is a list": under(alg=["RS256"]),
    "no alg": under(alg=None),
    "alg in lower case": under(alg="rs256"),
    "alg that is not accepted": under(alg="RS512"),
    "alg of another key type": under(alg="ES256"),
    "alg of another padding": under(alg="PS256"),
    "alg of another hash": under(alg="RS384"),
    "alg of another curve": under(alg="ES512"),
    "alg with white space": under(alg="RS256 "),
    "alg is true": under(alg=True),
    "alg by its new name": under(alg="Ed25519"),
    "alg of encryption": under(alg="RSA-OAEP"),
    "signed with PS256 and called RS256": signed_as("PS256", "RS256"),
    "signed with RS512 and called RS256": signed_as("RS512", "RS256"),
    "signed with RS256 and called PS256": signed_as("RS256", "PS256"),
    "signed with PS512": signed_as("PS512", "PS512"),
    "public key as HMAC secret, HS384": signed_with_the_public_key("HS384"),
    "public key as HMAC secret under ES256": signed_with_the_public_key("ES256"),
    "a blank ECDSA signature": unsigned(alg="ES256", kid="ES256-first") + "A" * 86,
    "a blank EdDSA signature": unsigned(alg="EdDSA", kid="EdDSA-first") + "A" * 86,
    "an RSA signature of zeros": unsigned() + "A" * 342,
    "public key as HMAC secret": signed_with_the_public_key("HS256"),
    "public key as HMAC secret under RS256": signed_with_the_public_key("RS256"),
    "no signature": make_token().rpartition(".")[0] + ".",
    "an empty signature": make_token().rpartition(".")[0] + ".AA",
    # Keys (§3.3 to §3.5, §3.10)
    "claims changed": tampered(),
    "another key of the same name": make_token("RS256", "stranger", {"kid": "RS256-first"}),
    "an unknown key": make_token("RS256", "stranger"),
    "a key of another type": under(kid="ES256-first"),
    "no kid, and the only fitting key is another": make_token("RS256", "stranger", {"kid": None}),
    "no kid and no key for its algorithm": signed({**HEADER, "kid": None, "alg": "PS256"}, CLAIMS),
    "kid is a list": under(kid=["RS256-first"]),
    "kid is a path": under(kid="../../../../dev/null"),
    "kid is a query": under(kid="' UNION SELECT 'key"),
    "kid with NUL": under(kid="RS256-first\0"),
    "kid is empty": under(kid=""),
    "kid is a number": under(kid=0),
    "kid is an object": under(kid={"$ne": ""}),
    "kid in another case": under(kid="rs256-FIRST"),
    "kid is a URL": under(kid="https://evil.example/key"),
    "kid is a format string": under(kid="%s{0.__class__}"),
    "kid is the name of an attribute": under(kid="__class__"),
    "kid is very long": under(kid="k" * 10_000),
    "its own key in jwk": make_token("RS256", "stranger", {"kid": "x", "jwk": STRANGER}),
    "its own key in jwk under a known name": make_token(
        "RS256", "stranger", {"kid": "RS256-first", "jwk": STRANGER}
    ),
    "its own keys at jku": make_token("RS256", "stranger", {"jku": "https://evil.example/keys"}),
    "its own chain at x5u": make_token("RS256", "stranger", {"x5u": "https://evil.example/x"}),
    "its own chain in x5c": make_token("RS256", "stranger", {"x5c": ["MIIB"]}),
    "key of the other issuer": make_token("ES256", "other"),
    # Headers that change the interpretation (§3.11; RFC 7515 §4.1.11, RFC 7797)
    "crit": under(crit=["exp"], exp=1),
    "crit is empty": under(crit=[]),
    "crit that is unknown": under(crit=["urn:x"], **{"urn:x": 1}),
    "b64 false": under(b64=False, crit=["b64"]),
    "b64 false without crit": under(b64=False),
    "zip": under(zip="DEF"),
    "typ of a key proof": under(typ="dpop+jwt"),
    "typ of a logout": under(typ="logout+jwt"),
    "typ is a number": under(typ=1),
    "typ is null": signed({**HEADER, "typ": None}, CLAIMS),
    "typ is empty": under(typ=""),
    "typ is a prefix alone": under(typ="application/"),
    "typ has the prefix twice": under(typ="application/application/jwt"),
    "typ with a parameter": under(typ="JWT; charset=utf-8"),
    "typ with white space": under(typ=" JWT"),
    "typ with a full-width letter": under(typ="\uff2aWT"),
    "typ of a security event": under(typ="secevent+jwt"),
    "typ of an entity statement": under(typ="entity-statement+jwt"),
    "typ of an introspection response": under(typ="token-introspection+jwt"),
    "typ is a list": under(typ=["JWT"]),
    # Claims (§3.8, §3.9)
    "unknown issuer": make_token(iss="https://evil.example"),
    "issuer with a slash behind": make_token(iss=ISSUER + "/"),
    "no issuer": make_token(iss=None),
    "issuer is a list": signed(HEADER, {**CLAIMS, "iss": [ISSUER]}),
    "issuer is an object": signed(HEADER, {**CLAIMS, "iss": {"$ne": 1}}),
    "another audience": make_token(aud="somebody-else"),
    "a part of the audience": make_token(aud=AUDIENCE[:-1]),
    "no audience": make_token(aud=None),
    "audience is empty": make_token(aud=[]),
    "audience is an object": signed(HEADER, {**CLAIMS, "aud": {AUDIENCE: 1}}),
    "audience among other things": signed(HEADER, {**CLAIMS, "aud": [AUDIENCE, 5]}),
    "audience in another case": make_token(aud=AUDIENCE.upper()),
    "audience with white space": make_token(aud=f"{AUDIENCE} "),
    "audiences in one string": make_token(aud=f"other {AUDIENCE}"),
    "audience in a list in a list": signed(HEADER, {**CLAIMS, "aud": [[AUDIENCE]]}),
    "audience beside null": signed(HEADER, {**CLAIMS, "aud": [AUDIENCE, None]}),
    "audience beside an object": signed(HEADER, {**CLAIMS, "aud": [AUDIENCE, {}]}),
    "audience is true": signed(HEADER, {**CLAIMS, "aud": True}),
    "audience is null": signed(HEADER, {**CLAIMS, "aud": None}),
    "a thousand audiences": make_token(aud=[f"audience-{n}" for n in range(700)]),
    "client_id instead of an audience": make_token(aud=None, client_id=AUDIENCE, azp=AUDIENCE),
    "bound to a key": make_token(cnf={"jkt": "0ZcO"}),
    "bound to a certificate": make_token(cnf={"x5t#S256": "bwcK"}),
    "bound to nothing": signed(HEADER, {**CLAIMS, "cnf": None}),
    "issuer of a later entry, with its audience": make_token(iss=OTHER, aud="other"),
    "issuer with white space": make_token(iss=f" {ISSUER}"),
    "issuer in another case": make_token(iss=ISSUER.upper()),
    "subject is null": signed(HEADER, {**CLAIMS, "sub": None}),
    "subject is a list": signed(HEADER, {**CLAIMS, "sub": ["eve"]}),
    "no subject": make_token(sub=None),
    "subject is empty": make_token(sub=""),
    "subject is a number": signed(HEADER, {**CLAIMS, "sub": 5}),
    "subject is an object": signed(HEADER, {**CLAIMS, "sub": {"$gt": ""}}),
    "subject is too long": make_token(sub="x" * 256),
    "subject with a line break": make_token(sub="ada\nroot logged in"),
    "subject with an escape": make_token(sub="\x1b[31mada"),
    "subject with half a character": signed(HEADER, {**CLAIMS, "sub": "\ud800"}),
    "no expiry": make_token(exp=None),
    "no issue time": make_token(iat=None),
    "expired": make_token(iat=NOW - 600, exp=NOW - 60),
    "issued in the future": make_token(iat=NOW + 3600, exp=NOW + 4000),
    "not valid yet": make_token(nbf=NOW + 3600),
    "valid for too long": make_token(exp=NOW + 86400 * 30),
    "valid for ever": make_token(exp=2**62),
    "expiry is a string": make_token(exp=str(NOW + LIFETIME)),
    "expiry is true": make_token(exp=True),
    "expiry is null": signed(HEADER, {**CLAIMS, "exp": None}),
    "expiry is a list": signed(HEADER, {**CLAIMS, "exp": [NOW + LIFETIME]}),
    "expiry is infinite": make_token(exp=float("inf")),
    "expiry is 1e400": signed(
        HEADER, json.dumps(CLAIMS).replace(f"{NOW + LIFETIME}", "1e400").encode()
    ),
    "expiry is enormous": make_token(exp=10**400),
    "expiry is negative": make_token(exp=-1),
    "issue time is a string": make_token(iat=str(NOW)),
    "issue time is not a number": make_token(iat=float("nan")),
    "issue time is null": signed(HEADER, {**CLAIMS, "iat": None}),
    "not-before is a string": make_token(nbf="0"),
    "not-before is null": signed(HEADER, {**CLAIMS, "nbf": None}),
    "not-before is true": make_token(nbf=True),
}


@pytest.mark.parametrize("what", BAD_TOKENS)
def test_invalid_token_is_refused(verifier: TokenVerifier, what: str) -> None:
    for _ in range(2):  # a refused token is not remembered as valid
        with pytest.raises(TokenInvalid) as refused:
            verify(verifier, BAD_TOKENS[what])
    assert '"' not in refused.value.detail  # the detail is part of a quoted-string
    assert "example" not in refused.value.detail


def test_claim_of_any_shape_costs_bounded_time_and_grants_nothing() -> None:
    """Every claim that a rule names, in unexpected shapes."""
    grant = {"members:read": ["members:read"]}
    claims = [
        {"claim": "scope", "values": grant},
        {"claim": ["a", "b", "c"], "values": grant},
        {"claim": ["__class__", "__name__"], "values": {"dict": ["members:delete"]}},
        {"claim": "level", "values": {"1": ["members:read"]}},
    ]
    entry = {"issuer": ISSUER, "audience": AUDIENCE, "permissions": {"claims": claims}}
    keys = FixedKeys(parse_key_set([public_jwk("RS256")], "test"))
    verifier = TokenVerifier(Auth.model_validate({"issuers": [entry]}), {ISSUER: keys})
    shapes: list[Any] = [
        *(None, True, 1.0, 1e300, -1, 10**300, "", " " * 2000, {}, [], [[]], {"b": "members:read"}),
        *(["x"] * 500, {"b": {"c": {"members:read": 1}}}, {"b": ["c"]}, ["members:read "]),
        *("members:read\0", "MEMBERS:READ", {"members:read": True}, [{"members:read": 1}]),
        "x " * 1000,
    ]
    for shape in shapes:
        hostile = {**CLAIMS, "scope": shape, "a": shape, "level": shape, "__class__": shape}
        assert verify(verifier, signed(HEADER, hostile)).permissions == set(), shape
        hostile["a"] = {"b": {"c": "members:read"}}  # a valid claim elsewhere still counts
        assert verify(verifier, signed(HEADER, hostile)).permissions == {"members:read"}, shape
    assert verify(verifier, signed(HEADER, {**CLAIMS, "level": 1})).permissions == {"members:read"}


def test_refusal_gives_a_useful_reason(verifier: TokenVerifier) -> None:
    for what, reason in {
        "expired": "has expired",
        "another audience": "audience",
        "unknown issuer": "issuer",
        "no expiry": "exp",
        "valid for too long": "more than",
    }.items():
        with pytest.raises(TokenInvalid, match=reason):
            verify(verifier, BAD_TOKENS[what])


def test_expiry_allows_for_clock_skew(verifier: TokenVerifier) -> None:
    now = int(time.time())
    assert verify(verifier, make_token(iat=now - 600, exp=now - 10)).subject == "somebody"


def test_token_without_kid_uses_the_only_key() -> None:
    settings = Auth.model_validate({"issuers": [{"issuer": ISSUER, "audience": AUDIENCE}]})
    keys = parse_key_set([public_jwk("RS256")], "test")
    verifier = TokenVerifier(settings, {ISSUER: FixedKeys(keys)})
    assert verify(verifier, make_token(headers={"kid": None})).subject == "somebody"


@pytest.mark.parametrize(
    "token",
    [
        under(),
        under(typ=None),
        under(typ="jwt"),
        under(typ="at+jwt"),
        under(typ="application/at+JWT"),
        under(jku="https://issuer.example/keys", x5t="abc", cty="JWT", **{"urn:other": 1}),
        make_token(aud=[AUDIENCE, "another"]),
        make_token(iat=NOW + 10, exp=NOW + LIFETIME + 0.5, nbf=NOW + 0.25),
        make_token(sub="Zoë 👩‍🚀".replace("\u200d", "")),
        make_token(sub="x" * 255),
    ],
)
def test_unusual_valid_token_is_accepted(verifier: TokenVerifier, token: str) -> None:
    assert verify(verifier, token).issuer == ISSUER


SECRET = "a secret of thirty-two bytes, or more"


@pytest.fixture(scope="module")
def sharing() -> TokenVerifier:
    """A verifier with the shared secret of one issuer, and the public keys of another."""
    shared = {"issuer": "shared", "audience": AUDIENCE, "algorithms": ["HS256"], "secret": SECRET}
    auth = Auth.model_validate({"issuers": [shared, {"issuer": ISSUER, "audience": AUDIENCE}]})
    public = FixedKeys(parse_key_set([public_jwk("RS256")], "test"))
    return TokenVerifier(auth, {"shared": FixedKeys(secret_key_set(SECRET)), ISSUER: public})


def shared_token(secret: str = SECRET, algorithm: str = "HS256", **header: Any) -> str:
    claims = {**CLAIMS, "iss": "shared"}
    return jwt.encode(claims, secret, algorithm=algorithm, headers=header)


def test_shared_secret_verifies_tokens_with_any_kid(sharing: TokenVerifier) -> None:
    assert verify(sharing, shared_token()).issuer == "shared"
    assert verify(sharing, shared_token(kid="2026-11")).subject == "eve"
    assert verify(sharing, make_token()).issuer == ISSUER


@pytest.mark.parametrize(
    "token",
    [
        shared_token("another secret of thirty-two bytes!!"),
        shared_token(SECRET * 2, "HS384"),
        jwt.encode({**CLAIMS, "iss": ISSUER}, SECRET, headers={"kid": "RS256-first"}),
        make_token(iss="shared"),
        make_token(iss="shared", headers={"kid": None}),
    ],
)
def test_issuer_does_not_sign_for_another(sharing: TokenVerifier, token: str) -> None:
    with pytest.raises(TokenInvalid):
        verify(sharing, token)


class Remembering:
    """A verifier whose clock and keys a test can change."""

    def __init__(self) -> None:
        settings = Auth.model_validate({"issuers": [{"issuer": ISSUER, "audience": AUDIENCE}]})
        self.started = int(time.time())
        self.now = float(self.started)
        self.set = parse_key_set([public_jwk("RS256"), public_jwk("ES256")], "test")
        self.verifier = TokenVerifier(settings, {ISSUER: self}, clock=lambda: self.now)

    def state(self) -> KeyState:
        return KeyState(len(self.set.keys))

    def keys(self) -> KeySet:
        return self.set

    async def refresh(self) -> None:
        """Find nothing new."""

    def signatures_checked(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """Return a list that grows with each signature that is checked."""
        checked: list[str] = []
        check = tokens.verifies

        def counting(key: Key, token: str, algorithm: str) -> bool:
            checked.append(token)
            return check(key, token, algorithm)

        monkeypatch.setattr(tokens, "verifies", counting)
        return checked


def test_token_is_verified_once(monkeypatch: pytest.MonkeyPatch) -> None:
    remembering = Remembering()
    checked = remembering.signatures_checked(monkeypatch)
    token = make_token()
    callers = {verify(remembering.verifier, token) for _ in range(5)}
    assert (len(callers), len(checked)) == (1, 1)


def test_remembered_token_expires() -> None:
    remembering = Remembering()
    token = make_token(exp=remembering.started + 60)
    verify(remembering.verifier, token)
    remembering.now = remembering.started + 89
    verify(remembering.verifier, token)
    remembering.now = remembering.started + 90
    with pytest.raises(TokenInvalid, match="has expired"):
        verify(remembering.verifier, token)


def test_withdrawn_key_stops_working_at_once() -> None:
    remembering = Remembering()
    token, other = make_token("RS256"), make_token("ES256")
    verify(remembering.verifier, token)
    verify(remembering.verifier, other)
    remembering.set = parse_key_set([public_jwk("ES256")], "test")
    with pytest.raises(TokenInvalid, match="unknown key"):
        verify(remembering.verifier, token)
    verify(remembering.verifier, other)


def test_remembered_tokens_are_limited_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    remembering = Remembering()
    monkeypatch.setattr(tokens, "MAX_CACHED", 10)
    checked = remembering.signatures_checked(monkeypatch)
    token = make_token()
    for _ in range(50):
        verify(remembering.verifier, make_token("ES256"))
        verify(remembering.verifier, token)
        with pytest.raises(TokenInvalid):
            verify(remembering.verifier, tampered())
    assert len(remembering.verifier._verified_tokens) == 10
    assert checked.count(token) == 1  # a token in use stays
    assert MAX_CACHED == 10_000


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from([ISSUER, AUDIENCE, "RS256", "members:read", "7", NOW, "cl"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
NAMES = st.sampled_from(
    [
        *("iss", "aud", "sub", "iat", "exp", "nbf", "cnf", "azp", "client_id", "scope", "scp"),
        *("access_rights", "email", "email_verified", "ext", "member", "generation"),
    ]
)
HEADER_NAMES = st.sampled_from(["alg", "kid", "typ", "crit", "b64", "zip", "jwk", "cty"])


@pytest.fixture(scope="module")
def permissive() -> TokenVerifier:
    """A verifier whose entries use every setting that reads claims."""
    grant = {"members:read": ["members:read"], "7": ["members:delete"]}
    claims: list[dict[str, Any]] = [
        {"claim": name, "values": grant} for name in ("scope", "scp", "email", "sub")
    ]
    claims.append({"claim": ["ext", "a"], "values": grant})
    permissions = {"at_most": ["members:read", "members:read:own"], "claims": claims}
    entry = {"issuer": ISSUER, "permissions": permissions, "member_claim": ["ext", "a"]}
    entries = [
        {**entry, "audience": AUDIENCE, "subject_claim": "azp"},
        {**entry, "audience": [AUDIENCE, "b"], "member_claim": "member"},
        {**entry, "client_ids": "cl"},
    ]
    keys = FixedKeys(parse_key_set([public_jwk("RS256")], "test"))
    return TokenVerifier(Auth.model_validate({"issuers": entries}), {ISSUER: keys})


@given(st.dictionaries(NAMES, JSON_VALUES), st.dictionaries(HEADER_NAMES, JSON_VALUES, max_size=1))
def test_claims_and_headers_of_any_shape_are_refused_or_capped(
    permissive: TokenVerifier, claims: dict[str, Any], header: dict[str, Any]
) -> None:
    """With a valid signature: no exception but TokenInvalid, and nothing beyond the cap."""
    token = signed({**HEADER, **header}, {**CLAIMS, **claims})
    try:
        caller = verify(permissive, token)
    except TokenInvalid:
        return
    assert caller.permissions <= {"members:read", "members:read:own"}
    assert isinstance(caller.subject, str)
    assert caller.member_id is None or type(caller.member_id) is int


@given(st.data())
def test_mutated_token_is_never_accepted(data: st.DataObject) -> None:
    """Whatever is changed, omitted or inserted: only TokenInvalid is raised, and always."""
    remembering = Remembering()
    token = data.draw(st.sampled_from([GOOD, under(), make_token("ES256")]))
    start = data.draw(st.integers(0, len(token)))
    end = data.draw(st.integers(start, min(len(token), start + 8)))
    mutated = token[:start] + data.draw(st.text(max_size=8)) + token[end:]
    if mutated != token:
        with pytest.raises(TokenInvalid):
            verify(remembering.verifier, mutated)


class RestingRevocations:
    """Revocations that were not read for a while."""

    was_awaited = False
    revision = 0

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer

    def is_current(self) -> bool:
        return self.was_awaited

    async def ensure_current(self) -> None:
        self.was_awaited = True

    def apply(self, caller: Caller) -> Caller:
        assert self.was_awaited
        return caller


def test_cached_token_waits_for_revocations_that_are_not_current() -> None:
    settings = Auth.model_validate({"issuers": [{"issuer": ISSUER, "audience": AUDIENCE}]})
    keys = FixedKeys(parse_key_set([public_jwk("RS256")], "test"))
    revocations = RestingRevocations(ISSUER)
    verifier = TokenVerifier(settings, {ISSUER: keys}, revocations=revocations)
    token = make_token()
    caller = verify(verifier, token)
    cached = verifier.get_cached(token)
    assert cached
    assert verifier.current_caller(cached) == caller
    revocations.was_awaited = False
    assert verifier.current_caller(cached) is None  # so the fast path does not serve it
    assert verify(verifier, token) == caller


def test_revocations_concern_the_tokens_of_their_issuer_only() -> None:
    settings = Auth.model_validate({"issuers": [{"issuer": ISSUER, "audience": AUDIENCE}]})
    keys = FixedKeys(parse_key_set([public_jwk("RS256")], "test"))
    others = RestingRevocations("https://other.example")
    verifier = TokenVerifier(settings, {ISSUER: keys}, revocations=others)
    token = make_token()
    caller = verify(verifier, token)
    cached = verifier.get_cached(token)
    assert cached
    assert verifier.current_caller(cached) == caller
    assert not others.was_awaited
