"""The documentation matches the program, as far as a test can check it."""

import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks import serve
from tests.auth.test_tokens import BAD_TOKENS
from tests.lease_cache.test_interleavings import EXPLORATIONS
from tests.support.service import ROOT, Command
from tools import differential, fuzz, soak
from tornado_members.__main__ import main
from tornado_members.admin.app import ADMIN_ROUTES
from tornado_members.admin.status import ProcessStatus
from tornado_members.app import (
    ALL_ROUTES,
)
from tornado_members.embedded.private_servers import PrivateServers
from tornado_members.errors import Problem
from tornado_members.handlers.base import BaseHandler

API = (ROOT / "docs" / "api.md").read_text()
COMMAND_LINE = (ROOT / "docs" / "cli.md").read_text()


def problems(base: type[Problem] = Problem) -> list[type[Problem]]:
    """Return every class of problems."""
    return [kind for sub in base.__subclasses__() for kind in [sub, *problems(sub)]]


def test_docs_describe_every_problem() -> None:
    text = (ROOT / "docs" / "errors.md").read_text()
    documented = set(re.findall(r"^\| (\d+) \| `([a-z-]+)` \|", text, re.MULTILINE))
    assert documented == {(str(p.status), p.code) for p in problems() if hasattr(p, "code")}


def test_readme_is_short() -> None:
    assert (ROOT / "README.md").read_text().count("\n") <= 90


def test_readme_states_no_more_than_the_tests_cover() -> None:
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert "more than 150 forged or malformed tokens" in readme
    assert len(BAD_TOKENS) > 150
    assert "a dozen scenarios" in readme
    assert len(EXPLORATIONS) >= 12


def test_docs_describe_every_route_and_method() -> None:
    table = API.split("## Requests")[1].split("## Reads")[0]
    requests = "".join(line.split("|")[1] for line in table.splitlines() if line.startswith("|"))
    documented = set(re.findall(r"`([A-Z]+) (/[^`]*)`", requests))
    for path, handler in ALL_ROUTES:
        assert issubclass(handler, BaseHandler)
        if path.startswith(("/docs/", "/console/")):
            continue  # the files of the page
        methods = {method for method, documented_path in documented if documented_path == path}
        assert methods == set(handler.operations) - {"HEAD"}, path


def test_docs_describe_every_metric_with_its_labels(process_status: ProcessStatus) -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    table, alerts = re.split("## Metrics|## Logs", text)[1].split("**Alerts")
    documented = {}
    for names, labels in re.findall(r"^\| (`[a-z_`, ]+`) \| (.*?) \|", table, re.MULTILINE):
        for name in re.findall("`([a-z_]+)`", names):
            documented[name] = set(re.findall("`([a-z_]+)`", labels))
    shown = {
        family.name + ("_total" if family.kind == "counter" else ""): set(family.labels)
        for family in process_status.collect()
    }
    assert documented == shown
    for name in re.findall(r"(?:members|process|python)_[a-z_]+", alerts):
        assert re.sub("_(bucket|count|sum)$", "", name) in shown, name


def test_docs_describe_every_admin_page() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    documented = re.findall(r"^\| `(/[a-z]+)` \|", text, re.MULTILINE)
    assert documented == [path for path, _ in ADMIN_ROUTES]


def test_handlers_name_their_routes_for_logs_and_metrics() -> None:
    for path, handler in ALL_ROUTES:
        assert issubclass(handler, BaseHandler)
        assert handler.route == path


def test_docs_describe_every_script() -> None:
    for script in (ROOT / "scripts").iterdir():
        assert f"`scripts/{script.name}" in COMMAND_LINE
        assert script.read_text().splitlines()[1].startswith("# ")


def test_documented_options_exist(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("seed", "token", "serve", "keys", "watch"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
    for program in (soak, fuzz, serve, differential):
        with pytest.raises(SystemExit):
            program.main(["--help"])
    shown = capsys.readouterr().out + (ROOT / "scripts" / "setup").read_text()
    options = set(re.findall(r"--[a-z][a-z-]+", COMMAND_LINE))
    for option in options - {"--members", "--data-binary"}:  # of the benchmark, and of curl
        assert option in shown


def anchors(file: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub derives them."""
    headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_lead_to_existing_files_and_headings() -> None:
    for file in [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "examples").glob("*.md"),
    ]:
        text = " ".join(file.read_text().split())
        for target, anchor in re.findall(r"\]\(([^)#: ]*)#?([^): ]*)\)", text):
            page = file.parent / target if target else file
            assert page.exists(), f"{file.name} links to {target}"
            if anchor:
                assert anchor in anchors(page), f"{file.name} links to {target}#{anchor}"


VARIABLE = [
    (r"X-Request-Id: \w+", "X-Request-Id: ID"),
    (r'"requestId": "\w+"', '"requestId": "ID"'),
    (r"(Date|Last-Modified): .*", r"\1: DATE"),
    (r"after=[\w-]+", "after=CURSOR"),
    (r"Cache-Status: .*", "Cache-Status: STATUS"),  # a service that has just begun reads past it
]


def comparable(text: str) -> str:
    """Return text without what differs between responses."""
    for pattern, replacement in VARIABLE:
        text = re.sub(pattern, replacement, text)
    return text.replace("\r", "").strip()


def console_steps(text: str) -> list[tuple[str, str]]:
    """Return the commands of a page, each with the output that it shows."""
    blocks = "\n".join(re.findall(r"```console\n(.*?)```", text, re.DOTALL))
    steps = [step.partition("\n") for step in re.split(r"^\$ ", blocks, flags=re.MULTILINE)[1:]]
    return [(line, shown) for line, _, shown in steps]


@pytest.mark.parametrize(
    ("page", "commands"), [("README.md", 4), ("docs/api.md", 29), ("docs/attributes.md", 6)]
)
def test_documented_requests_receive_the_documented_responses(
    folder: Path, servers: PrivateServers, database_name: str, page: str, commands: int
) -> None:
    settings: dict[str, Any] = {
        "mongodb": {"uri": servers.mongodb_uri, "database": database_name},
        "cache": {"servers": servers.cache_servers},
    }
    text = (ROOT / page).read_text()
    if page == "docs/attributes.md":  # for the declaration that it shows first
        settings.update(yaml.safe_load(text.split("```yaml\n")[1].split("```")[0]))
    steps = console_steps(text)
    assert len(steps) == commands
    command = Command(folder, settings)

    def token_of(found: re.Match[str]) -> str:
        return command.token(*shlex.split(found[1]))

    token_script = f"{ROOT}/scripts/token --config {shlex.quote(str(command.config))}"
    with command.serving() as service:
        variables = dict(os.environ)
        for command_line, expected in steps:
            line = command_line
            if page != "README.md":  # whose test runs the script itself
                line = re.sub(r"\$\(scripts/token ([^)]*)\)", token_of, line)
            script = line.replace("scripts/token", token_script).replace("curl ", "curl -s ")
            script = script.replace("http://127.0.0.1:8888", service.url)
            if variable := re.match("([A-Z]+)=", line):
                script += f'\nprintf %s "${variable[1]}"'
            done = subprocess.run(
                ["/bin/bash", "-euc", script],
                capture_output=True,
                text=True,
                check=True,
                env=variables,
            )
            if variable:
                variables[variable[1]] = done.stdout
            else:
                assert comparable(done.stdout) == comparable(expected), line
