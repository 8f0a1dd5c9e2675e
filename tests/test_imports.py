"""Imports point down the list of docs/architecture.md, and never up."""

import ast
import gc
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import tornado_members

PACKAGE = Path(tornado_members.__file__).parent

# From the top layer to the bottom. A package may import itself and the packages below it.
LAYERS = [
    ["__main__"],
    ["commands"],
    ["serving"],
    ["admin"],
    ["app"],
    ["handlers"],
    ["services"],
    ["http"],
    ["openapi"],
    ["bulk"],
    ["feed"],
    ["invalidator"],
    ["directory"],
    ["cached_members"],
    ["member_entries"],
    ["auth"],
    ["embedded"],
    ["storage"],
    ["telemetry"],
    ["settings"],
    ["model"],
    ["errors", "http1", "in_turns", "ticks", "lease_cache"],
]
LEVELS = {package: level for level, packages in enumerate(LAYERS) for package in packages}

# The packages that may import a library, or a package that is not open to all above it.
IMPORTERS = {
    "pymongo": {"storage"},
    "motor": {"storage"},
    "bson": {"storage"},
    "aiomcache": {"lease_cache"},
    "tornado.web": {"handlers", "http", "app", "admin", "serving"},
    "jwt": {"auth"},
    "re2": {"model"},
    "argon2": {"auth"},
    "mimesis": {"bulk"},
    "httptools": {"http1"},
    "uvloop": {"http1"},
    "tqdm": {"commands", "bulk"},
    "prometheus_client": {"admin"},
    "opentelemetry": {"telemetry"},
    # Handlers use the directory, and nothing below it.
    "tornado_members.storage": {
        "storage",
        "embedded",  # makes its MongoDB a replica set
        "auth",
        "feed",
        "invalidator",
        "directory",
        "admin",
        "services",
        "commands",
    },
    "tornado_members.lease_cache": {
        "lease_cache",
        "storage",
        "auth",
        "cached_members",
        "directory",
        "member_entries",
        "admin",
        "services",
    },
}
# Engines: each could be used outside of this product unchanged.
ENGINES = ("lease_cache", "http1")


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def package_of(file: Path) -> str:
    return file.relative_to(PACKAGE).with_suffix("").parts[0]


def module_path(file: Path) -> tuple[str, ...]:
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


@cache
def imported(file: Path) -> tuple[str, ...]:
    """Return every module that a file imports, at any place."""
    found: list[str] = []
    for node in ast.walk(parsed(file)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute here"
            found += [f"{node.module}", *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(found)


def parsed(file: Path) -> ast.Module:
    """Parse a file. Python 3.11 fails if garbage collection runs Python code meanwhile."""
    text = file.read_text()
    gc.disable()
    try:
        return ast.parse(text)
    finally:
        gc.enable()


def test_imports_point_down(subtests: pytest.Subtests) -> None:
    for file in modules():
        with subtests.test(file=str(file.relative_to(PACKAGE))):
            check_imports(file)


def check_imports(file: Path) -> None:
    """Assert that a module imports only packages below its own, and libraries that it may use."""
    package = package_of(file)
    if package == "__init__":
        return
    for name in imported(file):
        parts = name.split(".")
        if parts[0] == "tornado_members" and len(parts) > 1 and parts[1] in LEVELS:
            other = parts[1]
            assert other == package or LEVELS[other] > LEVELS[package], f"{file} imports {name}"
        for library, importers in IMPORTERS.items():
            if name == library or name.startswith(library + "."):
                assert package in importers, f"{file} imports {name}"


@pytest.mark.parametrize("engine", ENGINES)
def test_engine_imports_nothing_of_the_product(engine: str) -> None:
    for file in (PACKAGE / engine).glob("*.py"):
        for name in imported(file):
            own = f"tornado_members.{engine}"
            assert not name.startswith("tornado_members") or name.startswith(own), f"{file}: {name}"


def test_parsers_of_http1_import_no_input_and_output() -> None:
    for name in ("request_reader", "request_head", "bodies", "events", "body_timer"):
        file = PACKAGE / "http1" / f"{name}.py"
        assert not {"asyncio", "socket", "ssl"} & set(imported(file)), file


def test_modules_of_http1_import_each_other_one_way_only() -> None:
    modules = {file.stem: file for file in (PACKAGE / "http1").glob("*.py")}
    uses = {
        stem: {name.split(".")[2] for name in imported(file) if name.count(".") >= 2}
        & modules.keys()
        for stem, file in modules.items()
    }
    while uses:
        leaves = {stem for stem, used in uses.items() if not used & uses.keys()}
        assert leaves, f"a circle of {sorted(uses)}"
        uses = {stem: used for stem, used in uses.items() if stem not in leaves}


def test_imports_have_no_cycle() -> None:
    """Lazy imports and imports for types count, too."""
    files = {".".join(("tornado_members", *module_path(file))): file for file in modules()}
    imports: dict[str, set[str]] = {}
    for name, file in files.items():
        found = files.keys() & {*imported(file)} - {name}
        # `from package import module` imports the module.
        imports[name] = {
            module for module in found if not any(x.startswith(f"{module}.") for x in found)
        }
    while free := {name for name, needed in imports.items() if not needed}:
        imports = {name: needed - free for name, needed in imports.items() if name not in free}
    assert not imports.keys() & set().union(*imports.values())


def test_every_package_has_a_layer() -> None:
    assert {package_of(file) for file in modules()} - {"__init__"} == set(LEVELS)


def test_architecture_page_lists_the_packages_in_this_order() -> None:
    page = (PACKAGE.parent / "docs" / "architecture.md").read_text()
    tree = page.split("```\ntornado_members/\n")[1].split("```")[0]
    listed = re.findall(r"^  (\S.*?)  ", tree, re.MULTILINE)
    packages = [re.sub(r"\.py$|/$", "", name) for line in listed for name in line.split(", ")]
    assert set(packages) == set(LEVELS)
    assert [LEVELS[package] for package in packages] == sorted(LEVELS.values())


def test_serve_imports_no_library_that_a_service_seldom_needs() -> None:
    """Each would take memory in every worker."""
    names = {"mimesis", "opentelemetry", "prometheus_client", "pyexpat", "re2"}
    names |= {"sqlite3", "tornado.testing", "tornado_members.commands.seed", "tqdm", "unittest"}
    program = (
        "import sys, tornado_members.__main__, tornado_members.commands.serve\n"
        f"sys.exit(' '.join({names} & sys.modules.keys()) or None)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=PACKAGE.parent)


def test_import_reads_no_settings_and_opens_nothing() -> None:
    """No I/O at import: it works with invalid settings, and starts no thread."""
    program = (
        "import os, threading; os.environ['MEMBERS_SERVER__PORT'] = 'wrong'\n"
        "import tornado_members.__main__, tornado_members.commands.serve\n"
        "import tornado_members.commands.seed, tornado_members.commands.token\n"
        "assert threading.active_count() == 1\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=PACKAGE.parent)
