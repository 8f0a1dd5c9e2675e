"""People who do not exist."""

from collections.abc import Iterator

from mimesis import Person
from mimesis.locales import Locale

from tornado_members.model.member import MemberDraft


def fake_members() -> Iterator[MemberDraft]:
    """Drafts without end, no two of one name."""
    person = Person(Locale.EN)
    given: set[str] = set()
    while True:
        name = person.full_name()
        while name in given:  # some 10 million pairs of names; more names for those who come late
            name = f"{name} {person.last_name()}"
        given.add(name)
        yield MemberDraft(
            name=name,
            email=person.email(domains=["example.com", "example.net", "example.org"]),
            phone=person.phone_number(mask="+1-555-###-####"),
        )
