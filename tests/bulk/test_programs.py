"""Exports of other programs, over HTTP and from the command line, with invented people."""

import json
from pathlib import Path
from typing import Any

import pymongo
import pytest

from tests.support.api import Api, problem
from tests.support.service import Command
from tornado_members.bulk.member_file import read_members
from tornado_members.bulk.options import FileInfo, FileOptions
from tornado_members.bulk.rows import Refusal
from tornado_members.embedded.private_servers import PrivateServers

FILES = Path(__file__).parent / "files"
_BAD_NAME, _BAD_EMAIL, _SUSPICIOUS = "bad name", "bad email", "suspicious"
_OLGA = ("Olga Look", "olga@example.org", "+1 212 555 0111")

# The result of each row of a file: a member, or the kind of its refusal.
EXPECTED: dict[str, list[tuple[str, str | None, str | None] | str]] = {
    "bom_rejects.csv": [_BAD_EMAIL],
    "club.xlsx": [("Exie Cell", "exie@example.org", "447912345678"), ("Nocell", None, None)],
    "comment_line.csv": [("Com Ment", "cm@example.org", None)],
    "delim_heading_commas.csv": [("Ger Man", "german@example.org", None)],
    "delim_heading_commas_quoted.csv": [("Ger Man2", "german2@example.org", None)],
    "email2_only.csv": [("Pri Mary", "pri@example.org", None)],
    "entra.csv": [("Enno Tra", "enno@example.org", "+49 30 1234567")],
    "escapes2.csv": [_BAD_NAME, _BAD_EMAIL],
    "excel_utf16le_nobom.csv": [("Nobom Sixteen", "utf16n@example.org", "+49 30 1234567")],
    "first_last.csv": [("Ada Example", "ada@example.org", None)],
    "footer_total.csv": [("Foo Ter", "foot@example.org", None), _SUSPICIOUS],
    "french.csv": [("Zoé Dupré", "zd@example.org", "01 23 45 67 89")],
    "german.csv": [("Günther Groß", "gg@example.org", "030 123456")],
    "google_new.csv": [("Gina Grey", "gina@example.org", "+1 212 555 0100")],
    "google_old_cols.csv": [("Goran Cols", "goran2@example.org", "+1 212 555 0102")],
    "gzipped.csv.gz": [("Gz Person", "gz@example.org", None)],
    "json_array.json": [("Ja Son", "ja@example.org", None), ("Ja Son2", None, None)],
    "ldif.ldif": [("Ell Dif", "ell@example.org", None)],
    "linkedin.csv": [("Lin Ked", "lin@example.org", None)],
    "mailchimp.csv": [("Mia Chimp", "mia@example.org", None)],
    "moodle.csv": [
        ("Student One", "mo1@example.com", None),
        ("Student Two", "mo2@example.com", None),
    ],
    "name_invisible.csv": [
        *(_BAD_NAME, ("Bom Inside", "bi@example.org", None)),
        *(("Zed Width", "zw@example.org", None), _BAD_NAME),
    ],
    "nd_meta.ndjson": [
        ("Meta One", "m1@example.org", None),
        ("Meta Two", None, None),
        ("Meta Three", None, None),
    ],
    "okta.csv": [("Olaf Kta", "olaf@example.org", "+1 212 555 0130")],
    "outlook.csv": [_OLGA],
    "outlook_two_mails.csv": [_OLGA],
    "phone_invisible.csv": [
        ("Inv Isible", None, "+44 20 7946 0018"),
        ("Non Breaking", None, "+44-20-7946-0018"),
    ],
    "repeat_header_nameonly.csv": [("RepN One", None, None), ("RepN Two", None, None)],
    "sep_comma_upper.csv": [("Sep Upper", "su@example.org", None)],
    "shopify.csv": [("Teo Shop", "teo@example.org", "+17755550154")],
    "space_before_quote.csv": [("Jane Spaced", "sq1@example.org", None)],
    "space_before_quote_mail.csv": [("Spa Ce", "spa@example.org", None)],
    "spanish.csv": [("José Núñez", "jn@example.org", None)],
    "thunderbird.csv": [("Thea Bird", "thea@example.org", "+1 212 555 0120")],
    "title_line.csv": [("Tit Le", "title@example.org", None)],
    "trailing_ctrlz.csv": [("Ctrl Zed", "cz@example.org", None)],
    "utf16_ct_charset.csv": [("Utf Ct", "utfct@example.org", None)],
    "vcf.vcf": [("Vee Card", "vee@example.org", "+1 212 555 0100")],
}
# Files that must be refused as a whole, and words of the reason.
REFUSED = {
    "cp1252_heading.csv": "not UTF-8",
    "dup_header.csv": "email=#2",
    "html_as_xls.xls": "a web page",
    "http_heading_not_utf8.csv": "not UTF-8",
}
MEMBERS = {row for rows in EXPECTED.values() for row in rows if not isinstance(row, str)}


def test_each_file_has_an_expectation() -> None:
    assert {file.name for file in FILES.iterdir()} == EXPECTED.keys() | REFUSED.keys()


@pytest.mark.parametrize("size", [1, 10**6])
@pytest.mark.parametrize("name", EXPECTED)
def test_file_of_another_program_is_read(name: str, size: int) -> None:
    data = (FILES / name).read_bytes()
    pieces = (data[start : start + size] for start in range(0, len(data), size))
    found: list[object] = []
    for row in read_members(pieces, FileOptions(), FileInfo()):
        if row is None:
            continue
        if isinstance(row.content, Refusal):
            found.append(row.content.kind)
        else:
            found.append(tuple(row.content.values.values()))
    assert found == EXPECTED[name]


def stored(collection: Any) -> set[tuple[str, str | None, str | None]]:
    return {(m["name"], m["email"], m["phone"]) for m in collection.find()}


async def test_files_are_imported_over_http(
    api: Api, admin: pymongo.MongoClient[dict[str, Any]]
) -> None:
    headers = {"Content-Type": "text/csv"}
    for name, expected in EXPECTED.items():
        body = (FILES / name).read_bytes()
        answer = await api("POST", "/members/import", raw=body, headers=headers)
        assert answer.code == 200, (name, answer.body)
        *results, last = [json.loads(line) for line in answer.body.splitlines()]
        refused = [isinstance(row, str) for row in expected]
        assert [result["status"] >= 400 for result in results] == refused, name
        assert sum(refused) == last["summary"].get("refused", {}).get("invalid-member", 0)
    for name, words in REFUSED.items():
        body = (FILES / name).read_bytes()
        answer = await api("POST", "/members/import", raw=body, headers=headers)
        assert words in problem(answer, 422, "unreadable-file")["detail"]
    assert stored(admin["test"]["members"]) == MEMBERS


def test_files_are_loaded_from_the_command_line(
    folder: Path, servers: PrivateServers, admin: Any, database_name: str
) -> None:
    mongodb = {"uri": servers.mongodb_uri, "database": database_name}
    command = Command(folder, {"mongodb": mongodb, "cache": {"servers": servers.cache_servers}})
    for name, words in REFUSED.items():
        finished = command.run("seed", str(FILES / name))
        assert (finished.returncode, words in finished.stderr) == (2, True), finished.stderr
    finished = command.run("seed", *(str(FILES / name) for name in EXPECTED))
    assert finished.returncode == 1, finished.stderr
    assert stored(admin[database_name]["members"]) == MEMBERS


async def test_options_apply_over_http(api: Api) -> None:
    async def load(name: str, query: str, media_type: str = "text/csv") -> list[str]:
        body = (FILES / name).read_bytes()
        headers = {"Content-Type": media_type}
        answer = await api(
            "POST", f"/members/import?dry_run=true&{query}", raw=body, headers=headers
        )
        if answer.code != 200:
            return [json.loads(answer.body)["detail"]]
        return [json.loads(line).get("code", "summary") for line in answer.body.splitlines()]

    created = ["created", "summary"]
    assert await load("cp1252_heading.csv", "encoding=windows-1252") == ["created", *created]
    assert await load("cp1252_heading.csv", "", "text/csv; charset=windows-1252") == [
        "created",
        *created,
    ]
    assert await load("dup_header.csv", "column=email=%233") == created
    assert await load("footer_total.csv", "take_suspicious=true") == ["created", *created]
    assert await load("club.xlsx", "sheet=Old") == created
    assert "'Members', 'Old'" in (await load("club.xlsx", "sheet=None"))[0]
    assert await load("title_line.csv", "header_line=3") == created
    assert await load("footer_total.csv", "results=failures") == ["invalid-member", "summary"]
    assert "'URL'" in (await load("linkedin.csv", "strict=true"))[0]
    answer = await api(
        "POST",
        "/members/import?dry_run=true",
        raw=(FILES / "linkedin.csv").read_bytes(),
        headers={"Content-Type": "text/csv"},
    )
    assert answer.headers["X-Header-Line"] == "4"
    assert answer.headers["X-Ignored-Columns"] == "URL, Company, Position, Connected%20On"
    assert json.loads(answer.body.splitlines()[-1]) == {"summary": {"created": 1}}
