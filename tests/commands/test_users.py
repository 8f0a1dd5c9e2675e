"""The command users."""

import sys
from functools import partial
from io import StringIO
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import argon2
import pymongo
import pytest

from tests.support.service import Command
from tornado_members.auth import passwords
from tornado_members.embedded.private_servers import PrivateServers

PASSWORD = "correct horse"
Admin = pymongo.MongoClient[dict[str, Any]]


class Users:
    """Runs the command with typed input."""

    def __init__(self, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
        self.command = command
        self.monkeypatch = monkeypatch

    def __call__(self, *arguments: str, typed: str = "") -> CompletedProcess[str]:
        self.monkeypatch.setattr(sys, "stdin", StringIO(typed))
        return self.command.run("users", *arguments)


@pytest.fixture(autouse=True)
def fast_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real hashes take a third of a second of CPU each; test_passwords.py covers them."""
    little = partial(argon2.PasswordHasher, time_cost=1, memory_cost=1024, parallelism=1)
    monkeypatch.setattr(passwords, "PasswordHasher", little)


@pytest.fixture
def users(
    folder: Path, servers: PrivateServers, database_name: str, monkeypatch: pytest.MonkeyPatch
) -> Users:
    mongodb = {"uri": servers.mongodb_uri, "database": database_name}
    return Users(Command(folder, {"mongodb": mongodb, "cache": {"servers": []}}), monkeypatch)


def test_users_adds_lists_changes_and_removes(users: Users, admin: Admin) -> None:
    added = users("add", "ada", "--rights", "2", typed=f"{PASSWORD}\nignored\n")
    assert (added.returncode, added.stdout, added.stderr) == (0, "added ada: read and write\n", "")
    document = admin["test"]["users"].find_one({"username": "ada"})
    assert document
    assert document["password_hash"].startswith("$argon2id$")
    assert argon2.PasswordHasher().verify(document["password_hash"], PASSWORD)
    assert users("set-rights", "ada", "0").stdout == "ada: blocked\n"
    assert users("list").stdout == "ada  0  blocked\n"
    assert users("set-password", "ada", typed="another one").returncode == 0
    document = admin["test"]["users"].find_one({"username": "ada"})
    assert document
    assert argon2.PasswordHasher().verify(document["password_hash"], "another one")
    assert users("remove", "ada").stdout == "removed ada\n"
    assert users("list").stdout == ""


def test_users_binds_a_user_to_a_member(users: Users) -> None:
    added = users("add", "ada", "--rights", "0", "--member", "42", typed=PASSWORD)
    assert (added.returncode, added.stdout) == (0, "added ada: own member 42\n")
    assert users("set-rights", "ada", "1").stdout == "ada: read; own member 42\n"
    assert users("set-member", "ada", "7").stdout == "ada: read; own member 7\n"
    assert users("list").stdout == "ada  1  read; own member 7\n"
    assert users("set-member", "ada", "none").stdout == "ada: read\n"
    assert users("set-rights", "ada", "0").stdout == "ada: blocked\n"
    users("set-member", "ada", "7")
    users("remove", "ada")
    users("add", "ada", "--rights", "0", typed=PASSWORD)  # another person of this name
    assert users("list").stdout == "ada  0  blocked\n"


@pytest.mark.parametrize(
    ("arguments", "typed", "words"),
    [
        (["add", "ada", "--rights", "0", "--member", "0"], PASSWORD, "the id of a member"),
        (["add", "ada", "--rights", "0", "--member", "x"], PASSWORD, "the id of a member"),
        (["set-member", "ada", "9999999999999999"], "", "the id of a member"),
        (["set-member", "stranger", "1"], "", "the user stranger does not exist"),
        (["add", "ada"], PASSWORD, "--rights"),
        (["add", "ada", "--rights", "4"], PASSWORD, "invalid choice"),
        (["add", "ada", "--rights", "1"], "", "8 to 1024"),
        (["add", "ada", "--rights", "1"], "short\n", "8 to 1024"),
        (["add", "ada", "--rights", "1"], "x" * 1025, "8 to 1024"),
        (["add", "ada", "--rights", "1"], "half \ud800 a character", "not valid UTF-8"),
        (["add", "a\nb", "--rights", "1"], PASSWORD, "a username must have"),
        (["add", " ", "--rights", "1"], PASSWORD, "a username must have"),
        (["add", "x" * 256, "--rights", "1"], PASSWORD, "a username must have"),
        (["set-rights", "stranger", "1"], "", "the user stranger does not exist"),
        (["set-password", "stranger"], PASSWORD, "the user stranger does not exist"),
        (["remove", "stranger"], "", "the user stranger does not exist"),
        (["promote", "ada"], "", "invalid choice"),
        ([], "", "ACTION"),
    ],
)
def test_users_reports_invalid_arguments(
    users: Users, arguments: list[str], typed: str, words: str
) -> None:
    finished = users(*arguments, typed=typed)
    assert (finished.returncode, finished.stdout) == (2, "")
    assert words in finished.stderr
    assert "Traceback" not in finished.stderr
    assert users("list").stdout == ""


def test_add_refuses_an_existing_user(users: Users) -> None:
    assert users("add", "ada", "--rights", "1", typed=PASSWORD).returncode == 0
    again = users("add", " ada ", "--rights", "3", typed=PASSWORD)
    assert (again.returncode, again.stderr) == (2, "users: the user ada already exists\n")
    assert users("list").stdout == "ada  1  read\n"


def test_add_prompts_twice_for_a_hidden_password_on_a_terminal(
    users: Users, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    prompts: list[str] = []
    answers = iter([PASSWORD, "something else", PASSWORD, PASSWORD])

    def read_password(prompt: str) -> str:
        prompts.append(prompt)
        return next(answers)

    monkeypatch.setattr("tornado_members.commands.users.getpass", read_password)
    monkeypatch.setattr(sys, "stdin", Terminal())
    refused = users.command.run("users", "add", "ada", "--rights", "1")
    assert (refused.returncode, "the passwords differ" in refused.stderr) == (2, True)
    assert users.command.run("users", "add", "ada", "--rights", "1").returncode == 0
    assert prompts == ["Password: ", "Again: "] * 2


def test_config_may_follow_the_action(users: Users) -> None:
    other = users.command.folder / "other.yaml"
    other.write_text("server: {port: wrong}")
    finished = users("list", "--config", str(other))
    assert (finished.returncode, "server.port" in finished.stderr) == (2, True)
