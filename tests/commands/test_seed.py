"""scripts/seed, as a process on real servers."""

import csv
import os
import shlex
import signal
import subprocess
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


def test_seed_loads_valid_rows_and_reports_the_others(command: Command, members: Any) -> None:
    finished = command.run_alone("seed", write(command, PEOPLE))
    assert finished.returncode == 1
    assert finished.stdout.startswith("3 loaded, 3 refused in ")
    for line in ("1  name is taken", "1  bad email", "1  no name"):
        assert line in finished.stdout
    problems = finished.stderr.splitlines()[1:]
    assert problems[0].startswith("line 4: email is not an e-mail address")
    assert problems[1].startswith("line 5: name is taken by member 1")
    assert problems[2].startswith("line 6: name is missing")
    assert "(az,Ada Lovelace,other@example.org,)" in problems[1]
    assert [m["name"] for m in members.find().sort("_id")] == [
        "Ada Lovelace",
        "Grace Hopper",
        "Edsger Dijkstra",
    ]


def test_rejects_can_be_corrected_and_loaded(command: Command, members: Any) -> None:
    command.run("seed", write(command, PEOPLE))
    rejects = command.data / "rejects" / "people.csv"
    with rejects.open(newline="") as stream:
        rows = list(csv.reader(stream))
    assert rows[0] == ["line", "reason", "state", "name", "email", "phone"]
    assert [row[0] for row in rows[1:]] == ["4", "5", "6"]
    mended = rejects.read_text().replace("not an address", "nobody@example.org")
    rejects.write_text(mended.replace("az,Ada Lovelace", "az,Ada Lovelace II"))
    finished = command.run("seed", str(rejects))
    assert finished.stdout.startswith("2 loaded, 1 refused")
    assert members.count_documents({}) == 5
    assert len(rejects.read_text().splitlines()) == 4  # loaded rows are never overwritten
    with rejects.with_name("people.2.csv").open(newline="") as stream:
        rows = list(csv.reader(stream))
    assert rows[0] == ["line", "reason", "state", "name", "email", "phone"]
    assert len(rows) == 2


def test_rejects_keep_all_text_and_load_only_once_corrected(command: Command, members: Any) -> None:
    broken = [
        "too;many;cells;555-0100",
        "too few",
        '"Unclosed;a@example.org;555-0100',
        '"Odd"ly;quoted@example.org;555-0100',
        "Jürgen;no;555-0100",
    ]
    content = "\n".join(["name;email;phone", "Ada;;", *broken, "Bob;;", ""])
    file = write(command, content.encode("cp1252"))
    for _ in range(3):  # refused rows are refused again, without loss
        finished = command.run("seed", file, "--encoding", "cp1252")
        assert finished.returncode == 1
        assert "4 refused" in finished.stdout
        assert members.count_documents({}) == 2
        file = str(max((command.data / "rejects").iterdir(), key=lambda f: f.stat().st_mtime_ns))
        with Path(file).open(encoding="cp1252", newline="") as stream:
            kept = "\n".join(";".join(row) for row in csv.reader(stream, delimiter=";"))
        assert all(line in kept for line in broken)


def test_rejects_mean_the_same_without_the_options_of_their_source(
    command: Command, members: Any
) -> None:
    content = "Given,Family,Email,Contact at\nMend,Me,=1+1,mend@example\nNo,Body,n@b.org,x\n"
    columns = ("name=Given", "name=Family", "email=Contact at")
    options = [option for column in columns for option in ("--column", column)]
    finished = command.run("seed", write(command, content.encode("utf-8-sig")), *options)
    assert finished.stdout.startswith("0 loaded, 2 refused")
    rejects = command.data / "rejects" / "people.csv"
    text = rejects.read_text("utf-8-sig")
    assert text.splitlines()[0] == "line,reason,first name,last name,unused Email,email"
    assert ",'=1+1," in text  # no spreadsheet executes it
    advice = finished.stdout.splitlines()[-1].split("seed ")[1]
    finished = command.run("seed", *shlex.split(advice))
    assert finished.stdout.startswith("0 loaded, 2 refused")
    rejects.write_bytes(rejects.read_bytes().replace(b"mend@example", b"mend@example.org"))
    finished = command.run("seed", *shlex.split(advice))
    assert finished.stdout.startswith("1 loaded, 1 refused")
    assert members.find_one({}, {"_id": 0, "name": 1, "email": 1}) == {
        "name": "Mend Me",
        "email": "mend@example.org",
    }


def test_control_characters_of_a_file_do_not_reach_the_terminal(command: Command) -> None:
    content = "Name,Email,\x1b]2;TITLE\x07\nA\x1b[2J\x9b1m\u202e\r\n,B\nC,\x1b[1m,\n"
    finished = command.run("seed", write(command, content))
    printed = finished.stdout + finished.stderr
    assert not [c for c in printed if c != "\n" and not c.isprintable()]
    assert "\\x1b[2J" in printed


def test_rejects_file_keeps_refused_json_objects(command: Command, members: Any) -> None:
    text = '{"name": "Ada", "email": "a@"}\n{"name": Bob}\n{"name": "Eve"}\n'
    finished = command.run("seed", write(command, text, "people.ndjson"))
    assert finished.stdout.startswith("1 loaded, 2 refused")
    rejects = command.data / "rejects" / "people.ndjson"
    rows = list(csv.reader(rejects.read_text().splitlines()))
    assert rows[0] == ["line", "reason", "name", "email", "phone"]
    assert rows[1][2:] == ["Ada", "a@", ""]
    assert rows[2][2:] == ["", "", "", '{"name": Bob}']
    rejects.write_text(rejects.read_text().replace("a@", "a@b.org"))
    finished = command.run("seed", str(rejects))
    assert finished.stdout.startswith("1 loaded, 1 refused")
    assert members.find_one({"name": "Ada"})["email"] == "a@b.org"


def test_rejects_keep_characters_that_their_encoding_lacks(command: Command, members: Any) -> None:
    lines = [r'{"name": "\ud800 \udcff"}', '{"name": "Ada"}']
    finished = command.run("seed", write(command, "\n".join(lines), "people.ndjson"))
    assert finished.stdout.startswith("1 loaded, 1 refused")
    assert rb"\ud800 " + b"\xff" in (command.data / "rejects" / "people.ndjson").read_bytes()
    japanese = "name,email\n\u5c71\uff1f,a@\nBob,b@example.org\n".encode("shift_jis").replace(
        b"\x81\x48", b"\xff"
    )
    (command.folder / "japanese.csv").write_bytes(japanese)
    finished = command.run("seed", "japanese.csv", "--encoding", "shift_jis")
    assert finished.stdout.startswith("1 loaded, 1 refused")
    assert members.count_documents({}) == 2


def test_several_files_standard_input_and_a_dry_run(command: Command, members: Any) -> None:
    first, second = write(command, "name\nAda\n"), write(command, "name\nBob\nAda\n", "more.csv")
    finished = command.run("seed", first, second, "--dry-run")
    assert members.count_documents({}) == 0
    expected = f"{first}: 1 loaded, 0 refused in"
    assert [line[: len(expected)] for line in finished.stdout.splitlines()[:1]] == [expected]
    assert "1 loaded, 1 refused" in finished.stdout
    assert "line 3: name is taken by a new member, from an earlier row  (Ada)" in finished.stderr
    assert command.run("seed", first, "missing.csv").returncode == 2
    assert command.run("seed", first, write(command, "a,b\n", "bad.csv")).returncode == 2
    assert members.count_documents({}) == 0, "nothing is loaded before all headers are read"
    process = command.start("seed", "-", stdin=subprocess.PIPE)
    output, errors = process.communicate("name\nAda\n", timeout=30)
    assert output.startswith("1 loaded, 0 refused"), errors


def test_interrupted_seed_reports_its_position_and_keeps_rejects(
    command: Command, members: Any
) -> None:
    lines = [f"Person {i},{'' if i % 3 else 'no address'}" for i in range(200_000)]
    file = write(command, "name,email\n" + "\n".join(lines))
    process = command.start("seed", file)
    while members.count_documents({}) < 1000:
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert "Interrupted after line" in output
    assert len(Path(file).read_text().splitlines()) == 200_001
    refused = (command.data / "rejects" / "people.csv").read_text().splitlines()[1:]
    assert all(line.endswith(",no address") for line in refused)


def test_seed_prints_the_columns_it_uses(command: Command) -> None:
    finished = command.run("seed", write(command, "State;Name;Telefon\nak;Ada;555-0100\n"))
    assert finished.stderr == (
        "columns: name from 'Name', phone from 'Telefon'; no email (--column names one); "
        "ignored: 'State'\n"
    )


def test_seed_completes_when_its_output_is_closed(command: Command, members: Any) -> None:
    file = write(command, "name,email\n" + "Ada,no\n" * 500 + "Bob,bob@example.org\n")
    process = command.start("seed", file, stderr=subprocess.STDOUT)
    assert process.stdout
    process.stdout.close()
    assert process.wait(timeout=30) == 1
    assert members.count_documents({}) == 1


def test_seed_reads_from_a_pipe(command: Command, members: Any) -> None:
    pipe = command.folder / "pipe.csv"
    os.mkfifo(pipe)
    process = command.start("seed", str(pipe))
    pipe.write_text("name\nAda\nBob\n")
    output, errors = process.communicate(timeout=30)
    assert (process.returncode, output[:9]) == (0, "2 loaded,"), errors
    assert members.count_documents({}) == 2


@pytest.mark.parametrize("on_conflict", ["reject", "skip", "replace"])
def test_seed_run_again_changes_nothing(command: Command, members: Any, on_conflict: str) -> None:
    file = write(command, PEOPLE)
    arguments = ("seed", file, "--on-conflict", on_conflict)
    first = command.run(*arguments)
    before = list(members.find())
    second = command.run(*arguments)
    assert second.stdout.startswith("0 loaded, 3 unchanged")
    assert second.returncode == first.returncode == 1
    assert list(members.find()) == before


def test_exit_code_is_0_if_all_rows_are_loaded(command: Command) -> None:
    file = write(command, "name\nAda\nBob\n")
    for expected in ("2 loaded, 0 refused", "0 loaded, 2 unchanged, 0 refused"):
        finished = command.run("seed", file)
        assert finished.returncode == 0
        assert finished.stdout.startswith(expected)
    assert list((command.data / "rejects").iterdir()) == []


def test_on_conflict_replaces_or_skips(command: Command, members: Any) -> None:
    command.run("seed", write(command, "name,phone\nAda,555-0001\n"))
    changed = write(command, "name,phone\nAda,555-0002\n")
    assert command.run("seed", changed).stdout.startswith("0 loaded, 1 refused")
    skipped = command.run("seed", changed, "--on-conflict", "skip")
    assert (skipped.returncode, skipped.stdout[:19]) == (0, "0 loaded, 1 skipped")
    assert members.find_one()["phone"] == "555-0001"
    replaced = command.run("seed", changed, "--on-conflict", "replace")
    assert (replaced.returncode, replaced.stdout[:20]) == (0, "0 loaded, 1 replaced")
    assert members.find_one()["phone"] == "555-0002"


def test_rejects_keep_undecodable_bytes(command: Command) -> None:
    finished = command.run("seed", write(command, b"name\nJos\xe9\nAda\n"))
    assert finished.stdout.startswith("1 loaded, 1 refused")
    assert b"Jos\xe9" in (command.data / "rejects" / "people.csv").read_bytes()
    again = command.run("seed", str(command.folder / "people.csv"), "--encoding", "latin-1")
    assert again.returncode == 0


def test_many_rejects_are_summarized(command: Command) -> None:
    finished = command.run("seed", write(command, "name,email\n" + "Ada,no\n" * 500))
    assert len(finished.stderr.splitlines()) == 102
    assert "... more are in" in finished.stderr
    assert "500  bad email" in finished.stdout
    assert "... more are in data/rejects/people.csv" in finished.stderr


def test_column_option_names_other_headings(command: Command, members: Any) -> None:
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
        (["--fake", "0"], "integer"),
        (["x.csv", "--column", "age=Age"], "fields: name, email, phone"),
        (["x.csv", "--encoding", "klingon"], "unknown encoding klingon"),
        (["settings.yaml", "--rejects", "settings.yaml"], "already exists"),
        (["settings.yaml", "--fake", "1"], "not both"),
        (["-", "-"], "once only"),
        (["x.csv", "--column", "email=a", "--column", "email=b"], "names email twice"),
        (["x.csv", "--encoding", "punycode"], "unknown encoding"),
    ],
)
def test_seed_reports_invalid_arguments_and_files(
    command: Command, arguments: list[str], words: str
) -> None:
    finished = command.run("seed", *arguments)
    assert finished.returncode == 2
    assert words in finished.stderr
    assert "Traceback" not in finished.stderr


def test_fake_generates_members(command: Command, members: Any) -> None:
    for total in (1200, 2400):
        finished = command.run("seed", "--fake", "1200")
        assert finished.returncode == 0
        assert members.count_documents({}) == total
    assert members.find_one({"_id": 2400})


def test_audit_records_name_the_command(
    folder: Path, servers: PrivateServers, admin: Admin, database_name: str
) -> None:
    admin[database_name]["audit"].delete_many({})
    mongodb = {"uri": servers.mongodb_uri, "database": database_name}
    cache = {"servers": servers.cache_servers}
    command = Command(folder, {"mongodb": mongodb, "cache": cache, "audit": {"enabled": True}})
    for content, options in (
        (PEOPLE, []),
        ("name,phone\nAda Lovelace,555\n", ["--on-conflict=replace"]),
    ):
        command.run("seed", write(command, content), *options)
    records = admin[database_name]["audit"].find().sort("_id")
    assert [(r["memberId"], r["kind"], r["by"]["subject"]) for r in records] == [
        *((member_id, "created", "scripts/seed") for member_id in (1, 2, 3)),
        (1, "changed", "scripts/seed"),
    ]


def test_seed_loads_and_makes_up_attributes(
    folder: Path, servers: PrivateServers, database_name: str, members: Any
) -> None:
    attributes = {
        "level": {"type": "string", "enum": ["silver", "gold"], "csv_headings": ["Rank"]},
        "joined": {"type": "date"},
        "score": {"type": "integer", "minimum": 1},
    }
    settings = {
        "mongodb": {"uri": servers.mongodb_uri, "database": database_name},
        "cache": {"servers": servers.cache_servers},
        "members": {"attributes": attributes},
    }
    command = Command(folder, settings)
    table = write(command, "name,Rank,Since,score\nAda,gold,45000,7\nBob,iron,,0\n")
    refused = command.run("seed", "--column", "attributes.when=Since", table)
    assert refused.returncode == 2
    assert (
        "--column: attributes.when is not a field; fields: name, email, phone, attr"
        in refused.stderr
    )
    loaded = command.run("seed", "--column", "attributes.joined=Since", table)
    assert loaded.stdout.startswith("1 loaded, 1 refused")
    assert "attributes/level must be one of silver, gold; attributes/score is 0" in loaded.stderr
    expected = {"level": "gold", "joined": "2023-03-15", "score": 7}
    assert members.find_one({"name": "Ada"})["attributes"] == expected
    assert command.run("seed", "--fake", "5").returncode == 0
    assert members.count_documents({"attributes.score": {"$gte": 1}}) == 6
