"""Finding the programs of the private servers."""

from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import NoReturn

import pytest

from tests.support.service import Command
from tornado_members.embedded import programs


@pytest.fixture
def without_extra(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """An installation without the extra `embedded`, on a machine without mongod."""

    def missing(name: str) -> NoReturn:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(programs, "files", missing)
    monkeypatch.setenv("PATH", str(folder))


@pytest.mark.usefixtures("without_extra")
def test_find_mongod_falls_back_to_the_path(folder: Path) -> None:
    (folder / "mongod").touch(mode=0o755)
    assert programs.find_mongod() == str(folder / "mongod")


@pytest.mark.usefixtures("without_extra")
def test_missing_mongod_error_names_the_packages_to_install(folder: Path) -> None:
    finished = Command(folder, {"cache": {"servers": []}}).run("users", "list")
    assert (finished.returncode, finished.stdout) == (2, "")
    assert "pip install 'tornado_members[embedded]'" in finished.stderr
    assert "mongodb.uri" in finished.stderr
