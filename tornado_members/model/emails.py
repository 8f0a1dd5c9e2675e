"""The rules of e-mail addresses."""

import re
from functools import lru_cache

import email_validator
import idna
from email_validator import EmailNotValidError, validate_email

from tornado_members.model import characters
from tornado_members.model.text import MAX_CHARACTERS, case_fold, check_text

MAX_EMAIL_CHARACTERS = 254  # a path in SMTP has 256, with its brackets (RFC 5321 §4.5.3.1.3)

# A local part has at most 64 bytes (RFC 5321 §4.5.3.1.1).
_DOT_ATOM = re.compile(
    r"(?=.{1,64}@)[\w!#$%&'*+/=?^`{|}~-]+(?:\.[\w!#$%&'*+/=?^`{|}~-]+)*@([\w.-]+)", re.ASCII
)

# Addresses in .local or .test are valid in syntax, and some networks use them. The manual of
# email_validator documents that an empty list accepts them.
email_validator.SPECIAL_USE_DOMAIN_NAMES.clear()


def check_email(email: str) -> str:
    """Return the address in the form in which it is stored. Raises ValueError."""
    if is_plain_email(email):
        return email
    email = check_text(characters.trim_with_overrides(email))
    if is_plain_email(email):
        return email
    try:
        validate_email(email, check_deliverability=False, strict=True)
    except EmailNotValidError as error:
        raise ValueError(f"is not an e-mail address: {error}") from None
    return email


def fold_email(email: str) -> str:
    """Return the form in which addresses are compared: in any case, and for any form of a domain.

    An internationalized domain becomes its A-label (RFC 5890 §2.3.2.1), so that `münchen.de` and
    `xn--mnchen-3ya.de` are one domain.
    """
    if email.isascii():
        return email.lower()
    local, at, domain = email.rpartition("@")
    return f"{case_fold(local)}{at}{_fold_domain(domain)}"


@lru_cache(4096)
def _fold_domain(domain: str) -> str:
    if domain.isascii() or len(domain) > MAX_CHARACTERS:
        return case_fold(domain)
    try:
        return idna.encode(domain, uts46=True).decode()
    except (idna.IDNAError, UnicodeError):
        return case_fold(domain)


def is_plain_email(email: str) -> bool:
    """True if an address is a dot-atom (RFC 5322 §3.2.3) at a domain that is known to be valid.

    A full check takes three times as long as all other checks of a member together. Most of that
    time goes into the domain, and many addresses share a domain.
    """
    found = _DOT_ATOM.fullmatch(email)
    return found is not None and len(email) <= MAX_EMAIL_CHARACTERS and _is_domain(found[1])


@lru_cache(4096)
def _is_domain(domain: str) -> bool:
    try:
        validate_email(f"x@{domain}", check_deliverability=False, strict=True)
    except EmailNotValidError:
        return False
    return True
