"""Recognises the headings of columns, in the languages of common programs."""

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from tornado_members.model.member import MEMBER_FIELDS

FIRST, MIDDLE, LAST, DISPLAY = "first", "middle", "last", "display"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# A heading in lower case, without accents and anything but letters. Its role is a field of a
# member, or a part of the name.
_HEADINGS: Final = {  # beside those of the fields themselves
    "name": _words(
        "completename membername customername personname nombre nombrecompleto "
        "nom nomcomplet nomprenom nometprenom nome nomecompleto nomecognome nomeecognome naam "
        "volledigenaam vollername vollstandigername vorundnachname mitgliedsname navn namn nimi "
        "namevorname nachnamevorname familiennamevorname lastnamefirstname surnamefirstname "
        "namefirstname apellidosnombre cognomenome naamvoornaam "
        "имя фио имяифамилия полноеимя imieinazwisko adsoyad 姓名 氏名 名前 이름"
    ),
    DISPLAY: _words("displayname contactname anzeigename formattedname commonname"),
    FIRST: _words(
        "first firstname namefirst givenname givennames "
        " forename vorname prenom voornaam fornavn fornamn etunimi "
        "imie jmeno nombres nombredepila primernombre primeironome"
    ),
    MIDDLE: _words(
        "middle middlename additionalname segundonombre zweitervorname mellannamn отчество"
    ),
    LAST: _words(
        "last lastname namelast surname familyname nachname "
        " familienname zuname nomdefamille apellido apellidos "
        "cognome sobrenome apelido achternaam etternavn efternavn efternamn sukunimi nazwisko "
        "prijmeni фамилия soyad"
    ),
    "email": _words(
        "mailaddress emailadresse mailadresse correo correoelectronico "
        "direcciondecorreoelectronico courriel adresseemail adressemail adresseelectronique "
        "adressedemessagerie indirizzoemail indirizzomail postaelettronica enderecodeemail "
        "emailadres epost epostadresse epostadress sahkoposti sahkopostiosoite adresemail eposta "
        "почта электроннаяпочта адресэлектроннойпочты メール メールアドレス 电子邮件 邮箱 이메일"
    ),
    "phone": _words(
        "telephonenumber telno telnr telefon telefonnummer "
        "telefonnr rufnummer telefono numerodetelefono numeroditelefono telefone numerodetelefone "
        "telefoon telefoonnummer puhelin puhelinnumero numerodetelephone numertelefonu telefonszam "
        "contactnumber телефон номертелефона 電話 電話番号 电话 전화번호"
    ),
}
# Beside a column for the other part of the name, these hold one part.
_FIRST_BESIDE_LAST: Final = _words("nombre nome имя")
_LAST_BESIDE_FIRST: Final = {
    "name": _words("vorname"),
    "nom": _words("prenom"),
    "naam": _words("voornaam"),
    "navn": _words("fornavn"),
    "namn": _words("fornamn"),
}
_ROLES: Final = {
    **MEMBER_FIELDS.by_heading,
    **{heading: role for role, words in _HEADINGS.items() for heading in words},
}
# Words that distinguish several addresses or numbers; the smallest is preferred.
_QUALIFIERS: Final = {
    **dict.fromkeys(("primary", "main", "preferred", "haupt", "principal", "principale"), 1),
    **dict.fromkeys(("mobile", "mobil", "mobiel", "cell", "cellular", "handy", "movil"), 2),
    **dict.fromkeys(("celular", "portable", "cellulare", "gsm", "mobiltelefon"), 2),
    **dict.fromkeys(("home", "private", "privat", "personal", "prive", "casa"), 3),
    **dict.fromkeys(("work", "business", "office", "geschaftlich", "buro", "trabajo"), 4),
    **dict.fromkeys(("lavoro", "werk", "bureau", "dienstlich", "professionnel"), 4),
    **dict.fromkeys(("secondary", "other", "alternate", "alternative", "backup", "weitere"), 6),
}
# Qualifiers that mean a telephone number without a further word.
_ALONE: Final = dict.fromkeys(
    ("mobile", "cell", "handy", "movil", "celular", "cellulare", "gsm", "mobiltelefon"), "phone"
)
_NUMBERED: Final = 5
_LONGEST: Final = 100  # characters of a heading that is recognised
# Remarks in a heading that do not affect its role, such as "Email Address [Required]".
_REMARK: Final = re.compile(r"\[[^\]]*+\]|\b(?:required|optional|pflichtfeld)\b", re.IGNORECASE)
_WORD: Final = re.compile(r"[^\W\d_]+|\d+")
_CAMEL_CASE: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")


@dataclass(frozen=True, slots=True, order=True)
class Heading:
    """The role of a column; of several with one role, the smallest rank is preferred."""

    rank: tuple[int, int]
    role: str
    key: str  # the heading in its plain form


@lru_cache(2048)
def recognise(heading: str) -> Heading | None:
    """Return the role of a column with this heading; None if it is unknown."""
    if len(heading) > _LONGEST:
        return None
    words = _plain_words(heading)
    numbers = [int(word[:3]) for word in words if word.isdecimal()]
    if len(numbers) > 1:
        return None
    number = numbers[0] if numbers else 0
    words = [word for word in words if not word.isdecimal()]
    if number and words[-1:] == ["value"]:  # "E-mail 1 - Value"
        words.pop()
    for qualifier, rest in _qualified(words):
        key = "".join(rest)
        role = _ROLES.get(key) or (_ALONE.get(key) if not qualifier else None)
        if role is None or ((qualifier or number) and role not in ("email", "phone")):
            continue
        rank = max(qualifier or (2 if key in _ALONE else 0), _NUMBERED if number > 1 else 0)
        return Heading((rank, number), role, key)
    return None


def resolve(found: list[Heading]) -> list[str]:
    """Return the roles of all columns of a header, given that some depend on other columns."""
    keys = {heading.key for heading in found}
    has_last = any(heading.role == LAST for heading in found)
    roles = []
    for heading in found:
        role = heading.role
        if has_last and heading.key in _FIRST_BESIDE_LAST:
            role = FIRST
        elif not has_last and keys & _LAST_BESIDE_FIRST.get(heading.key, frozenset()):
            role = LAST
        roles.append(role)
    return roles


def _plain_words(heading: str) -> list[str]:
    text = _CAMEL_CASE.sub(" ", _REMARK.sub(" ", heading))
    if text.isascii():
        return _WORD.findall(text.lower())
    text = unicodedata.normalize("NFKD", text.replace("ß", "ss"))
    text = "".join(c for c in text.casefold() if not unicodedata.combining(c))
    return _WORD.findall(unicodedata.normalize("NFC", text))


def _qualified(words: list[str]) -> list[tuple[int, list[str]]]:
    """Return the words as they are, and without a qualifier at either end."""
    forms = [(0, words)]
    if len(words) > 1 and words[0] in _QUALIFIERS:
        forms.append((_QUALIFIERS[words[0]], words[1:]))
    if len(words) > 1 and words[-1] in _QUALIFIERS:
        forms.append((_QUALIFIERS[words[-1]], words[:-1]))
    return forms
