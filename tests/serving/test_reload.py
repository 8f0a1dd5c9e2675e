"""Settings that a reload refuses, because processes must not differ in them."""

import json
from pathlib import Path
from typing import Any

import pytest

from tornado_members.serving.reload import reload_settings
from tornado_members.settings import SettingsError
from tornado_members.settings.loading import SettingsSource

RUNNING: dict[str, dict[str, Any]] = {
    "mongodb": {"uri": "mongodb://user:one@db/", "database": "members"},
    "cache": {"servers": ["10.0.0.1:11211", "10.0.0.2:11211"]},
}
REFUSED = [
    ("mongodb", "database", "others"),
    ("cache", "heartbeat_ms", 300),
    ("cache", "timeout_ms", 150),
    ("cache", "return_ms", 2000),
]
ACCEPTED = [
    ("mongodb", "uri", "mongodb://user:two@db,db2/"),
    ("mongodb", "timeout_ms", 3000),
    ("cache", "ttl_seconds", 60),
    ("cache", "servers", ["10.0.0.3:11211", "10.0.0.1:11211"]),
    ("cache", "servers", []),
]


@pytest.fixture
def source(folder: Path) -> SettingsSource:
    return SettingsSource(folder / "settings.yaml")


def write(source: SettingsSource, section: str = "mongodb", **values: Any) -> None:
    assert source.file
    settings = {**RUNNING, section: {**RUNNING[section], **values}}
    source.file.write_text(json.dumps(settings))


@pytest.mark.parametrize(("section", "name", "value"), REFUSED)
def test_reload_refuses_settings_of_the_cluster(
    source: SettingsSource, section: str, name: str, value: Any
) -> None:
    write(source)
    running = source.load()
    write(source, section, **{name: value})
    with pytest.raises(SettingsError, match=rf"{section}\.{name}: cannot change from"):
        reload_settings(source, running)


@pytest.mark.parametrize(("section", "name", "value"), ACCEPTED)
def test_reload_applies_other_settings(
    source: SettingsSource, section: str, name: str, value: Any
) -> None:
    write(source)
    running = source.load()
    write(source, section, **{name: value})
    assert reload_settings(source, running) == source.load()
