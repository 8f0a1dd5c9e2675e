"""Reads the files of deploy/ as the service and its operators do."""

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.service import ROOT
from tornado_members.serving.server import _OWN_DESCRIPTORS
from tornado_members.serving.supervisor import _CLOSE_SECONDS
from tornado_members.settings import Settings, load_settings

DEPLOY = ROOT / "deploy"
MARGIN_SECONDS = 5  # to begin the stop, and to write the last log lines


def find_program(name: str) -> str:
    """Return the path of a program, or skip the test."""
    path = shutil.which(name, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if path is None:
        pytest.skip(f"{name} is not installed (scripts/setup --deploy)")
    return path


def read_yaml(path: str) -> Any:
    """Parse a file under deploy/."""
    return yaml.safe_load((DEPLOY / path).read_text())


def settings_with(file: Path, environment: Mapping[str, str] | None = None) -> Settings:
    """Load settings from a file and variables, as the service does. Raises SettingsError."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (environment or {}).items():
            patch.setenv(name, value)
        return load_settings(file)


def needs_no_private_servers(settings: Settings) -> bool:
    """True if the settings name all servers, so that the service starts none."""
    return not settings.mongodb.embedded and settings.cache.servers != "embedded"


def stopping_seconds(settings: Settings) -> float:
    """Return the longest duration of a stop in seconds; an earlier SIGKILL aborts requests."""
    server = settings.server
    return server.unready_seconds + server.drain_seconds + _CLOSE_SECONDS + MARGIN_SECONDS


def descriptors(settings: Settings) -> int:
    """Return the number of descriptors that a worker may need."""
    return settings.server.limits.connections + _OWN_DESCRIPTORS


def seconds(text: str) -> float:
    """Return the seconds of a duration of one unit, as systemd and compose write it."""
    units = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600}
    number = text.rstrip("abcdefghijklmnopqrstuvwxyz")
    return float(number) * units[text[len(number) :] or "s"]
