"""Headings of columns, and the fields to which they are mapped."""

import pytest

from tornado_members.bulk.mapping import map_columns


def sources(header: str, *columns: tuple[str, str]) -> dict[str, list[str]]:
    """Return the headings of each field: alternatives, each of headings that are joined."""
    mapping = map_columns(header.split(","), columns)
    assert not mapping.faults
    return {
        field: [" + ".join(mapping.header[i] for i in columns) for columns in sources]
        for field, sources in mapping.sources.items()
    }


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("Name,Given Name,Family Name", {"name": ["Name", "Given Name + Family Name"]}),
        ("Last Name,Middle Name,First Name", {"name": ["First Name + Middle Name + Last Name"]}),
        ("Vorname,Name", {"name": ["Vorname + Name"]}),
        ("Prénom,Nom", {"name": ["Prénom + Nom"]}),
        ("Nombre,Apellidos", {"name": ["Nombre + Apellidos"]}),
        ("Nombre,Telefono", {"name": ["Nombre"], "phone": ["Telefono"]}),
        ("Nome,Cognome,Cellulare", {"name": ["Nome + Cognome"], "phone": ["Cellulare"]}),
        ("givenName,surname,displayName", {"name": ["givenName + surname", "displayName"]}),
        (
            "Name,E-mail 2 Address,Work Email,Primary Email,Email",
            {
                "name": ["Name"],
                "email": ["Email", "Primary Email", "Work Email", "E-mail 2 Address"],
            },
        ),
        (
            "Name,Other Phone,Telefon (geschäftlich),Home Phone,Mobile Phone,Phone 1 - Value",
            {
                "name": ["Name"],
                "phone": [
                    *("Phone 1 - Value", "Mobile Phone", "Home Phone"),
                    *("Telefon (geschäftlich)", "Other Phone"),
                ],
            },
        ),
        (
            "First Name [Required],Last Name [Required],Email Address [Required]",
            {
                "name": ["First Name [Required] + Last Name [Required]"],
                "email": ["Email Address [Required]"],
            },
        ),
        # Columns for other purposes.
        ("Name,Email Type,Accepts Email Marketing,Phonetic First Name", {"name": ["Name"]}),
        ("Name,Name Prefix,Company Name,Default Address Phone,Home Fax", {"name": ["Name"]}),
    ],
)
def test_header_leads_to_the_columns_of_each_field(
    header: str, expected: dict[str, list[str]]
) -> None:
    assert sources(header) == expected


def test_columns_that_the_caller_names_are_joined_in_their_order() -> None:
    found = sources("A,B,Email,C", ("name", "#4"), ("name", "a"), ("email", "B"))
    assert found == {"name": ["C + A"], "email": ["B"]}


@pytest.mark.parametrize("header", ["First Name,Email", "Last Name,Email", "Nick,Email"])
def test_first_name_without_a_last_name_is_not_a_name(header: str) -> None:
    assert not map_columns(header.split(",")).is_usable
