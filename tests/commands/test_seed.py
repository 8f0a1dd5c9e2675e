"""scripts/seed, as a process on real servers."""

import csv
from pathlib import Path
from typing import Any

import pymongo
import pytest

from tests.support.service import Command
from tornado_members.embedded.private_servers import PrivateServers

Admin = pymongo.MongoClient[dict[str, Any]]

PEOPLE = """state,name,email,phone
ak,Ada Lovelace,ada@example.org,555-0100
al,Grace Hopper,,555-0101
ar,Nobody,not an address,
az,Ada Lovelace,other@example.org,
ca,,anonymous@example.org,
co,Edsger Dijkstra,,
"""


@pytest.fixture
def command(folder: Path, servers: PrivateServers, database_name: str) -> Command:
    mongodb = {"uri": servers.mongodb_uri, "database": database_name}
    return Command(folder, {"mongodb": mongodb, "cache": {"servers": servers.cache_servers}})


@pytest.fixture
def members(admin: Admin, database_name: str) -> Any:
    return admin[database_name]["members"]


def write(command: Command, content: str | bytes, name: str = "people.csv") -> str:
    file = command.folder / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(file)


def test_what_can_be_loaded_is_and_the_rest_is_told(command: Command, members: Any) -> None:
    finished = command.run_alone("seed", write(command, PEOPLE))
    assert finished.returncode == 1
    assert finished.stdout.startswith("3 loaded, 3 refused in ")
    for line in ("1  name is taken", "1  bad email", "1  no name"):
        assert line in finished.stdout
    told = finished.stderr.splitlines()
    assert told[0].startswith("line 4: email is not an e-mail address")
    assert told[1].startswith("line 5: name is taken by member 1")
    assert told[2].startswith("line 6: name is missing")
    assert "(az,Ada Lovelace,other@example.org,)" in told[1]
    assert [m["name"] for m in members.find().sort("_id")] == [
        "Ada Lovelace",
        "Grace Hopper",
        "Edsger Dijkstra",
    ]


def test_rejects_can_be_mended_and_loaded(command: Command, members: Any) -> None:
    command.run("seed", write(command, PEOPLE))
    rejects = command.data / "rejects" / "people.csv"
    with rejects.open(newline="") as stream:
        rows = list(csv.reader(stream))
    assert rows[0] == ["state", "name", "email", "phone", "line", "reason"]
    assert [row[4] for row in rows[1:]] == ["4", "5", "6"]
    mended = rejects.read_text().replace("not an address", "nobody@example.org")
    rejects.write_text(mended.replace("az,Ada Lovelace", "az,Ada Lovelace II"))
    finished = command.run("seed", str(rejects))
    assert finished.stdout.startswith("2 loaded, 1 refused")
    assert members.count_documents({}) == 5
    with rejects.open(newline="") as stream:
        rows = list(csv.reader(stream))
    assert rows[0] == ["state", "name", "email", "phone", "line", "reason"]
    assert len(rows) == 2


@pytest.mark.parametrize("on_conflict", ["reject", "skip", "replace"])
def test_a_second_run_changes_nothing(command: Command, members: Any, on_conflict: str) -> None:
    file = write(command, PEOPLE)
    arguments = ("seed", file, "--on-conflict", on_conflict)
    first = command.run(*arguments)
    before = list(members.find())
    second = command.run(*arguments)
    assert second.stdout.startswith("0 loaded, 3 there already")
    assert second.returncode == first.returncode == 1
    assert list(members.find()) == before


def test_all_loaded_is_exit_code_0(command: Command) -> None:
    file = write(command, "name\nAda\nBob\n")
    for expected in ("2 loaded, 0 refused", "0 loaded, 2 there already, 0 refused"):
        finished = command.run("seed", file)
        assert finished.returncode == 0
        assert finished.stdout.startswith(expected)
    assert not (command.data / "rejects").exists()


def test_replacing_and_skipping(command: Command, members: Any) -> None:
    command.run("seed", write(command, "name,phone\nAda,555-0001\n"))
    changed = write(command, "name,phone\nAda,555-0002\n")
    assert command.run("seed", changed).stdout.startswith("0 loaded, 1 refused")
    skipped = command.run("seed", changed, "--on-conflict", "skip")
    assert (skipped.returncode, skipped.stdout[:19]) == (0, "0 loaded, 1 skipped")
    assert members.find_one()["phone"] == "555-0001"
    replaced = command.run("seed", changed, "--on-conflict", "replace")
    assert (replaced.returncode, replaced.stdout[:20]) == (0, "0 loaded, 1 replaced")
    assert members.find_one()["phone"] == "555-0002"


def test_bytes_that_are_no_text_come_back_as_they_were(command: Command) -> None:
    finished = command.run("seed", write(command, b"name\nJos\xe9\nAda\n"))
    assert finished.stdout.startswith("1 loaded, 1 refused")
    assert b"Jos\xe9" in (command.data / "rejects" / "people.csv").read_bytes()
    again = command.run("seed", str(command.folder / "people.csv"), "--encoding", "latin-1")
    assert again.returncode == 0


def test_many_refusals_are_not_all_printed(command: Command) -> None:
    finished = command.run("seed", write(command, "name,email\n" + "Ada,no\n" * 500))
    assert len(finished.stderr.splitlines()) == 101
    assert "... more are in" in finished.stderr
    assert "500  bad email" in finished.stdout


def test_a_file_in_other_columns(command: Command, members: Any) -> None:
    file = write(command, "Who;Reach me at\nAda;555-0100\n")
    assert command.run("seed", file).returncode == 2
    arguments = ("--column", "name=Who", "--column", "phone=Reach me at")
    assert command.run("seed", file, *arguments).returncode == 0
    assert members.find_one()["phone"] == "555-0100"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing.csv"], "No such file"),
        (["."], "Is a directory"),
        ([], "required"),
        (["--fake", "0"], "whole number"),
        (["x.csv", "--column", "age=Age"], "fields: name, email, phone"),
        (["x.csv", "--encoding", "klingon"], "klingon is not an encoding"),
    ],
)
def test_what_cannot_be_done_is_told(command: Command, arguments: list[str], words: str) -> None:
    finished = command.run("seed", *arguments)
    assert finished.returncode == 2
    assert words in finished.stderr
    assert "Traceback" not in finished.stderr


def test_made_up_members(command: Command, members: Any) -> None:
    for total in (1200, 2400):
        finished = command.run("seed", "--fake", "1200")
        assert finished.returncode == 0
        assert members.count_documents({}) == total
    assert members.find_one({"_id": 2400})
