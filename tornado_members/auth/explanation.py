"""Explains offline, by the settings, whether and why the service accepts a token."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from tornado_members.auth.claims import find_claim, show_path
from tornado_members.auth.issuer_rules import IssuerRules, compile_issuers
from tornado_members.auth.key_set import KeysUnusable
from tornado_members.auth.permissions import GrantTable
from tornado_members.auth.sources import read_local_keys
from tornado_members.auth.token_format import check_header, read_token
from tornado_members.auth.tokens import verifies
from tornado_members.errors import TokenInvalid
from tornado_members.settings import Settings

_MAX_SHOWN: Final = 100  # characters of a claim's value

Claims = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Token:
    """A token that could be parsed."""

    text: str
    header: Claims
    claims: Claims
    now: float  # seconds since the epoch


@dataclass(frozen=True, slots=True)
class Line:
    """One statement: about a check that passed or failed, or a remark."""

    passed: bool | None
    text: str

    def __str__(self) -> str:
        mark = {True: "ok  ", False: "NO  ", None: "    "}[self.passed]
        return f"{mark}{self.text}"


def explain(token: str, settings: Settings, now: float | None = None) -> list[Line]:
    """Return the explanation of a token, line by line; none contains the token.

    `now` is in seconds since the epoch.
    """
    now = time.time() if now is None else now
    try:
        parsed = _parse(token, settings.auth.max_token_bytes, now)
    except TokenInvalid as refusal:
        return [Line(False, f"401: {refusal.detail}")]
    issuer = parsed.claims.get("iss")
    entries = compile_issuers(settings.auth).get(issuer, ()) if isinstance(issuer, str) else ()
    if not entries:
        known = ", ".join(sorted({entry.issuer for entry in settings.auth.issuers}))
        return [
            Line(False, f"iss {_show(issuer)} is not in auth.issuers, which has: {known}"),
            Line(False, "401: The token is from an unknown issuer."),
        ]
    lines = [Line(True, f"iss {_show(issuer)} is in auth.issuers")]
    for rules in entries:
        found = list(_explain_entry(rules, settings, parsed))
        if len(entries) > 1:
            accepted = rules.entry.audience or rules.entry.client_ids
            lines.append(Line(None, f"--- the entry for {_show(accepted)}"))
        lines += found
        if found[-1].passed:
            break
    return lines


def _parse(token: str, max_bytes: int, now: float) -> _Token:
    if len(token) > max_bytes:
        raise TokenInvalid(f"is longer than {max_bytes} bytes (auth.max_token_bytes)", "malformed")
    header, claims = read_token(token)
    check_header(header)
    return _Token(token, header, claims, now)


def _explain_entry(rules: IssuerRules, settings: Settings, token: _Token) -> Iterator[Line]:
    claims = token.claims
    lines = [*_check_all(rules, token), _check_key(rules, settings, token)]
    yield from lines
    refused = [line for line in lines if line.passed is False]
    yield from _explain_grants(rules.grants, claims)
    if refused:
        yield Line(False, "401: the token is refused because of the lines marked NO above")
        return
    caller = rules.caller(claims)
    yield Line(None, f"the caller is {_show(caller.subject)}")
    yield _explain_member(rules, claims)
    if rules.name == settings.auth.own_issuer:
        yield Line(None, "not checked: whether this user was blocked, or the token revoked, since")
    granted = ", ".join(sorted(caller.permissions))
    if not granted:
        yield Line(False, "403: the token is accepted and grants nothing")
    else:
        yield Line(True, f"the token is accepted and grants: {granted}")


def _check_all(rules: IssuerRules, token: _Token) -> Iterator[Line]:
    entry, header, claims = rules.entry, token.header, token.claims
    accepted = f"aud is {_show(claims.get('aud'))}; accepted: {_show(entry.audience)}"
    if entry.client_ids:
        client = claims["client_id"] if "client_id" in claims else claims.get("azp")
        accepted = f"client_id or azp is {_show(client)}, without aud; accepted: "
        accepted += _show(entry.client_ids)
    path = entry.subject_claim
    checks: list[tuple[Callable[[], None], str]] = [
        (
            lambda: rules.check_algorithm(header),
            f"alg is {_show(header['alg'])}; accepted: {', '.join(entry.algorithms)}",
        ),
        (
            lambda: rules.check_type(header),
            f"typ is {_show(header.get('typ'))}; accepted: {', '.join(entry.token_types)}, or none",
        ),
        (lambda: rules.check_audience(claims), accepted),
        (
            lambda: rules.check_subject(claims),
            f"{show_path(path)} (subject_claim) is {_show(find_claim(claims, path))}",
        ),
        (lambda: _check_dates(rules, claims, token.now), _show_dates(claims, rules.max_lifetime)),
        (lambda: rules.check_binding(claims), f"cnf is {_show(claims.get('cnf'))}"),
    ]
    for check, text in checks:
        try:
            check()
        except TokenInvalid as refusal:
            yield Line(False, f"{text}: {refusal.detail}")
        else:
            yield Line(True, text)


def _check_dates(rules: IssuerRules, claims: Claims, now: float) -> None:
    rules.check_presence(claims)
    rules.check_dates(claims, now)


def _show_dates(claims: Claims, max_lifetime: int) -> str:
    dates = [f"{name} {_show_date(claims.get(name))}" for name in ("iat", "nbf", "exp")]
    return f"{', '.join(dates)}; at most {max_lifetime} s from iat to exp"


def _show_date(date: Any) -> str:
    try:
        return f"{datetime.fromtimestamp(date, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (TypeError, ValueError, OverflowError, OSError):
        return _show(date)


def _check_key(rules: IssuerRules, settings: Settings, token: _Token) -> Line:
    header = token.header
    named = f"kid {_show(header.get('kid'))}"
    try:
        keys = read_local_keys(rules.entry, settings)
    except KeysUnusable as error:
        return Line(False, f"the signature cannot be checked: {error}")
    if keys is None:
        return Line(None, f"{named}: the keys are fetched; the signature is not checked offline")
    key = keys.find(header.get("kid"), header["alg"])
    if key is None:
        fitting = [_show(key.kid) for key in keys.keys if header["alg"] in key.algorithms]
        known = ", ".join(fitting) or "none"
        return Line(False, f"{named} names no key for {header['alg']}; its keys: {known}")
    if token.now >= key.expires:
        return Line(False, f"{named} names a key that has expired")
    if not verifies(key, token.text, header["alg"]):
        return Line(False, f"{named}: the signature does not verify with this key")
    return Line(True, f"{named}: the signature verifies")


def _explain_grants(table: GrantTable, claims: Claims) -> Iterator[Line]:
    for rule in table.rules:
        value = find_claim(claims, rule.path)
        name = f"{show_path(rule.path)} is {_show(value)}"
        granted = ", ".join(sorted(rule.granted(claims)))
        if rule.blocks(claims):
            yield Line(None, f"{name}, which blocks the token: it grants nothing at all")
        else:
            yield Line(None, f"{name}, which grants {granted or 'nothing'}")
    if table.always:
        yield Line(None, f"every token of the issuer grants {', '.join(sorted(table.always))}")
    if table.at_most is not None:
        cap = ", ".join(sorted(table.at_most)) or "nothing"
        yield Line(None, f"at_most caps all this at {cap}")


def _explain_member(rules: IssuerRules, claims: Claims) -> Line:
    """Explain which member is the caller's own. Permissions `...:own` require one."""
    if rules.member_claim is None:
        return Line(None, "the issuer has no member_claim: the permissions ...:own grant nothing")
    member_id = rules.own_member(claims)
    name = f"{show_path(rules.member_claim)} (member_claim)"
    shown = f"{name} is {_show(find_claim(claims, rules.member_claim))}"
    if member_id is None:
        return Line(None, f"{shown}, not a memberId: the permissions ...:own grant nothing")
    return Line(None, f"{shown}, the caller's own member")


def _show(value: Any) -> str:
    """Return a value in one line of bounded length; `absent` for none."""
    if value is None:
        return "absent"
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."
