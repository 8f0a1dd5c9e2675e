"""Loading the settings: a file, the environment over it, and messages about errors."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from tests.support.service import ROOT
from tornado_members.auth.own_issuer import OwnIssuer
from tornado_members.settings import (
    Issuer,
    Settings,
    SettingsError,
    SettingsSource,
    is_safe_url,
    load_settings,
)


@pytest.fixture
def load(folder: Path) -> Any:
    """Return a function that loads settings from text."""

    def from_text(text: str) -> Settings:
        (folder / "settings.yaml").write_text(text)
        return load_settings(folder / "settings.yaml")

    return from_text


def test_settings_yaml_contains_every_setting_with_its_default() -> None:
    written = yaml.safe_load((ROOT / "settings.yaml").read_text())
    defaults = Settings(data_dir=ROOT / ".data")
    assert load_settings(ROOT / "settings.yaml") == defaults

    def check(section: dict[str, Any], model: BaseModel, path: str) -> None:
        fields = set(type(model).model_fields)
        assert set(section) == fields, f"settings.yaml: {path}"
        for name in fields:
            if isinstance(value := getattr(model, name), BaseModel):
                check(section[name], value, f"{path}.{name}")

    check(written, defaults, "")


def test_empty_file_gives_the_defaults(load: Any) -> None:
    assert load("").server.port == 8888
    assert load("# nothing\n").mongodb.embedded


def test_load_without_a_file_uses_the_working_directory(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    defaults = load_settings()
    assert (defaults.server.port, defaults.data_dir) == (8888, folder / ".data")
    (folder / "settings.yaml").write_text("server: {port: 9000}\ndata_dir: here")
    assert load_settings().server.port == 9000
    assert load_settings().data_dir == folder / "here"


def test_data_dir_of_the_command_line_wins(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MEMBERS_DATA_DIR", "from-the-environment")
    (folder / "settings.yaml").write_text("data_dir: from-the-file")
    assert SettingsSource().load().data_dir == folder / "from-the-environment"
    settings = SettingsSource(data_dir=Path("given")).load()
    assert settings.data_dir == folder / "given"
    own = OwnIssuer.from_settings(settings)
    assert own
    assert own.jwks_file == folder / "given" / "keys" / "jwks.json"


def test_environment_overrides_the_file_key_by_key(
    load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMBERS_SERVER__PORT", "9000")
    monkeypatch.setenv("MEMBERS_CACHE__SERVERS", '["10.0.0.5:11211", "[::1]:11212"]')
    monkeypatch.setenv("MEMBERS_AUTH__PERMISSIONS__ACCESS_RIGHTS", '{"7": ["members:read"]}')
    settings = load("server: {host: 0.0.0.0, port: 1}\ncache: {ttl_seconds: 9}")
    assert (settings.server.host, settings.server.port) == ("0.0.0.0", 9000)
    assert settings.cache.servers == ("10.0.0.5:11211", "[::1]:11212")
    assert settings.cache.ttl_seconds == 9
    assert settings.auth.permissions.access_rights == {7: ("members:read",)}


def test_relative_paths_are_relative_to_the_file(load: Any, folder: Path) -> None:
    settings = load(
        "data_dir: here\nauth: {issuers: [{issuer: x, audience: y, jwks: {file: keys.json}}]}"
    )
    assert settings.data_dir == folder / "here"
    assert settings.auth.issuers[0].jwks.file == folder / "keys.json"
    own = OwnIssuer.from_settings(load(""))
    assert own
    assert own.jwks_file == folder / ".data/keys/jwks.json"


def test_settings_are_frozen() -> None:
    settings = Settings()
    with pytest.raises(ValidationError):
        settings.server.port = 1  # type: ignore[misc]


PERMISSIONS = "permissions: {claims: [{claim: %s, values: %s}]}"
A_PATH = "a list of names that leads into nested objects"

# For the entry of one issuer.
BAD_ISSUERS = [
    (PERMISSIONS % ("''", "{a: [members:read]}"), ["claims.0.claim: was ''", A_PATH]),
    (PERMISSIONS % ("[]", "{a: [members:read]}"), ["claims.0.claim: was []", A_PATH]),
    (PERMISSIONS % ("[a, '']", "{a: [members:read]}"), ["claims.0.claim", A_PATH]),
    (PERMISSIONS % ("7", "{a: [members:read]}"), ["claims.0.claim: was 7", A_PATH]),
    (PERMISSIONS % ("x", "{a: [fly]}"), ["claims.0.values.a.0", "'fly'", "'members:read'"]),
    (PERMISSIONS % ("x", "{a: [[x]]}"), ["claims.0.values.a.0", "'members:read'"]),
    (PERMISSIONS % ("x", "{}"), ["claims.0.values", "at least 1"]),
    (PERMISSIONS % ("x", "[a]"), ["claims.0.values", "dictionary"]),
    ("permissions: {claims: {}}", ["permissions.claims", "tuple"]),
    ("permissions: {claims: [{claim: x}]}", ["claims.0.values: is missing"]),
    ("permissions: {at_most: [all]}", ["permissions.at_most.0", "'all'", "'members:write'"]),
    ("permissions: {atmost: []}", ["permissions.atmost", "did you mean at_most"]),
    (
        "permissions: {at_most: ['members:read'], always: ['members:delete']}",
        ["auth.issuers.0.permissions", "beyond at_most: members:delete"],
    ),
    (
        PERMISSIONS % ("x", "{a: ['members:read:own']}"),
        ["auth: issuers.0 should have member_claim", "members:read:own"],
    ),
    (
        "permissions: {always: ['members:write:own']}",
        ["auth: issuers.0 should have member_claim", "members:write:own"],
    ),
    ("member_claim: []", ["auth.issuers.0.member_claim: was []", "the name of a claim"]),
    ("algorithms: [RS128]", ["auth.issuers.0.algorithms.0", "'RS128'", "'PS512'"]),
    ("algorithms: [none]", ["auth.issuers.0.algorithms.0", "'none'", "'EdDSA'"]),
    ("token_types: []", ["auth.issuers.0.token_types", "at least 1"]),
    ("subject_claim: ''", ["auth.issuers.0.subject_claim: was ''", "the name of a claim"]),
    ("max_lifetime_seconds: 0", ["auth.issuers.0.max_lifetime_seconds", "was 0"]),
    ("jwks: {url: 'http://k.example/x'}", ["jwks.url", "http://k.example", "allow_http"]),
    ("jwks: {url: 'ftp://k.example/x', allow_http: true}", ["jwks.url", "ftp://k.example"]),
    ("jwks: {allow_http: true}", ["auth.issuers.0.jwks", "exactly one of file, url and keys"]),
]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("servr: {}", ["servr", "unknown setting", "did you mean server"]),
        ("server: {prt: 1}", ["server.prt", "did you mean port"]),
        ("server: {port: abc}", ["server.port", "'abc'", "0 to 65535"]),
        ("server: {port: 70000}", ["server.port", "70000", "0 to 65535"]),
        ("server: 5", ["server", "5"]),
        ("mongodb: {driver: mongoengine}", ["mongodb.driver", "'motor' or 'pymongo'"]),
        ("mongodb: {database: 'a b'}", ["mongodb.database", "'a b'"]),
        ("cache: {servers: [localhost]}", ["cache.servers.0", "'localhost'", "host:port"]),
        ("cache: {servers: nowhere}", ["cache.servers", "'nowhere'", "embedded"]),
        (
            "telemetry: {otlp_endpoint: '127.0.0.1:4318'}",
            ["telemetry.otlp_endpoint", "http://host"],
        ),
        ("telemetry: {otlp_endpoint: 'http://u:p@host:4318'}", ["otlp_endpoint: was a secret"]),
        ("telemetry: {sample_ratio: 10}", ["telemetry.sample_ratio", "10", "less than or equal"]),
        ("cache: {ttl_seconds: 2592001}", ["cache.ttl_seconds", "2592001", "30 days"]),
        ("cache: {ttl_seconds: 0}", ["cache.ttl_seconds", "was 0"]),
        ("auth: {issuers: []}", ["auth.issuers", "at least 1"]),
        ("auth: {issuers: [{issuer: x}]}", ["auth.issuers.0", "audience is missing", "client_ids"]),
        (
            "auth: {issuers: [{issuer: x, audience: y, jwks: {file: a, keys: []}}]}",
            ["auth.issuers.0.jwks", "exactly one"],
        ),
        (
            "auth: {issuers: [{issuer: tornado-members, audience: y, algorithms: [HS256]}]}",
            ["auth.issuers.0", "secret", "HS256"],
        ),
        (
            "auth: {permissions: {access_rights: {1: [fly]}}}",
            ["auth.permissions.access_rights.1.0", "'fly'", "'members:read'"],
        ),
        (
            "auth: {issuers: [{issuer: a, audience: b}, {issuer: a, audience: [b]}]}",
            ["auth: issuers.1 should have another audience", "'a'"],
        ),
        ("server: {port: 1, port: 2}", ["duplicate key 'port'", "line 1"]),
        ("server: [", ["not valid YAML"]),
        ("[" * 600, ["not valid YAML"]),
        ("server: {port: 2024-13-45}", ["not valid YAML"]),
        ("server: {port: 1" + "0" * 5000 + "}", ["not valid YAML"]),
        ("data_dir: ''", ["data_dir"]),
        ("data_dir: ~nobody-at-all/x", ["data_dir", "nobody-at-all"]),
        ('data_dir: "a\\0b"', ["data_dir"]),
        ("- a\n- b", ["map of settings"]),
        ("_env_file: x", ["map of settings"]),
        ("audit: {keep_days: 24856}", ["audit.keep_days", "24856", "24855"]),
        ("server: {processes: -1}", ["server.processes", "-1"]),
        ("server: {trusted_proxies: [proxy]}", ["server.trusted_proxies.0", "'proxy'", "10.0.0.5"]),
        ("server: {trusted_proxies: [10.0.0.5/8]}", ["server.trusted_proxies.0", "a network"]),
        ("server: {tls: {key: a.pem}}", ["server.tls", "both certificate and key"]),
        ("server: {unix_socket_mode: 0660}", ["server.unix_socket_mode", '"0660"']),
        ("server: {limits: {connections: 0}}", ["server.limits.connections", "was 0"]),
        (
            "auth: {issuers: [{issuer: x, audience: y}]}",
            ["auth: issuers.0", "jwks", "not an https"],
        ),
        (
            "auth: {issuers: [{issuer: 'http://x', audience: y}]}",
            ["auth: issuers.0", "jwks", "not an https"],
        ),
        (
            "auth: {issuers: [{issuer: x, audience: y, jwks: {url: 'http://x.example/'}}]}",
            ["auth.issuers.0.jwks.url", "http://x.example", "https://"],
        ),
        (
            "auth: {issuers: [{issuer: x, audience: y, jwks: {url: 'https://a:b@x.example/'}}]}",
            ["auth.issuers.0.jwks.url", "https://"],
        ),
        (
            "auth: {issuers: [{issuer: x, audience: y, algorithms: [HS256], secret: PLANTED}]}",
            ["auth.issuers.0", "at least 32 bytes"],
        ),
        (
            "auth: {issuers: [{issuer: x, audience: y, algorithms: [HS256], secret: [PLANTED]}]}",
            ["auth.issuers.0.secret", "a secret"],
        ),
        (
            "auth: {issuers: [{issuer: x, audience: y, algorithms: [HS256, RS256], "
            "secret: PLANTED-PLANTED-PLANTED-PLANTED-PLANTED}]}",
            ["auth.issuers.0", "[HS256] and no jwks"],
        ),
        (
            "auth: {issuers: [{issuer: x, audience: y, algorithms: [HS256], jwks: {keys: []}, "
            "secret: PLANTED-PLANTED-PLANTED-PLANTED-PLANTED}]}",
            ["auth.issuers.0", "[HS256] and no jwks"],
        ),
        (
            "auth: {key_fetching: {min_refresh_seconds: 9, max_refresh_seconds: 8}}",
            ["auth.key_fetching", "min_refresh_seconds should be at most"],
        ),
        (
            "auth: {issuers: [{issuer: x, secret: *PLANTED}]}",
            ["valid YAML", "line 1", "quotes"],
        ),
        (
            "auth: {issuers: [{issuer: x, audience: y, jwks: {url: 'https://a:PLANTED@x.example'}}]}",
            ["auth.issuers.0.jwks.url", "a secret"],
        ),
        *(
            (f"auth: {{issuers: [{{issuer: x, audience: y, {given}}}]}}", words)
            for given, words in BAD_ISSUERS
        ),
        (
            "auth: {issuers: [{issuer: x, audience: y, client_ids: z}]}",
            ["auth.issuers.0", "either audience or client_ids"],
        ),
        ("auth: {issuers: [{issuer: x, audience: []}]}", ["auth.issuers.0.audience", "at least 1"]),
        (
            "auth: {issuers: [{issuer: x, audience: ['']}]}",
            ["auth.issuers.0.audience.0", "at least 1"],
        ),
        ("auth: {issuers: [{issuer: x, client_ids: 7}]}", ["auth.issuers.0.client_ids", "was 7"]),
        ("auth: {max_token_bytes: 0}", ["auth.max_token_bytes", "was 0", "256"]),
        ("auth: {sender_constrained: no}", ["auth.sender_constrained", "'refuse' or 'ignore'"]),
        ("server: {trusted_proxies: 10.0.0.5}", ["server.trusted_proxies", "'10.0.0.5'"]),
        ("cache: {return_ms: 399}", ["cache.return_ms", "was 399", "at least 400"]),
        ("cache: {timeout_ms: 500}", ["cache.return_ms", "was 1000", "at least 1600"]),
        (
            "cache: {timeout_ms: 10000, return_ms: 40000}",
            ["cache.timeout_ms", "was 10000", "at most 2000", "mongodb.timeout_ms"],
        ),
        ("mongodb: {timeout_ms: 99}", ["cache.timeout_ms", "was 100", "at most 99"]),
        ("log: {level: loud}", ["log.level", "'loud'", "'debug'"]),
    ],
)
def test_error_names_the_key_and_the_value(load: Any, text: str, words: list[str]) -> None:
    with pytest.raises(SettingsError) as refused:
        load(text)
    for word in words:
        assert word in str(refused.value)
    assert "PLANTED" not in str(refused.value)


def test_all_errors_are_reported_together(load: Any) -> None:
    with pytest.raises(SettingsError) as refused:
        load("server: {port: x}\ncache: {timeout_ms: 0}\nnonsense: 1")
    for key in ("server.port", "cache.timeout_ms", "nonsense"):
        assert key in str(refused.value)


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("MEMBERS_SERVER__PORT", "abc", ["server.port", "MEMBERS_SERVER__PORT", "'abc'"]),
        ("MEMBERS_SERVER__PRT", "1", ["server.prt", "did you mean port"]),
        ("MEMBERS_SERVR__PORT", "1", ["MEMBERS_SERVR__PORT", "did you mean"]),
        ("MEMBERS_AUTH__ISSUERS", "[nonsense", ["MEMBERS_AUTH__ISSUERS", "JSON"]),
    ],
)
def test_error_names_the_environment_variable(
    load: Any, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, words: list[str]
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as refused:
        load("")
    for word in words:
        assert word in str(refused.value)


def test_variables_that_kubernetes_sets_are_ignored(
    load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMBERS_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("MEMBERS_PORT_8888_TCP", "tcp://10.0.0.1:8888")
    monkeypatch.setenv("MEMBERS_PORT", "tcp://10.0.0.1:8888")
    assert load("").server.port == 8888
    monkeypatch.setenv("MEMBERS_PORT", "9000")
    with pytest.raises(SettingsError, match="MEMBERS_PORT"):
        load("")


def test_no_message_contains_the_uri(load: Any, folder: Path) -> None:
    settings = load("mongodb: {uri: 'mongodb://ada:hunter2@db/'}")
    assert "hunter2" not in repr(settings)
    assert settings.mongodb.connection_uri() == "mongodb://ada:hunter2@db/"
    for text in (
        "mongodb: {uri: 'redis://ada:hunter2@db/', driver: x}",
        "mongodb: 'mongodb://ada:hunter2@db/'",
        "mongodb: {database: 'mongodb://ada:hunter2@db/'}",
        "mongodb: {uri: ['mongodb://ada:hunter2@db/']}",
    ):
        with pytest.raises(SettingsError) as refused:
            load(text)
        assert "hunter2" not in str(refused.value)
    (folder / "uri").write_text("mongodb://from-a-file/\n")
    settings = load("mongodb: {uri_file: uri}")
    assert not settings.mongodb.embedded
    assert settings.mongodb.connection_uri() == "mongodb://from-a-file/"
    with pytest.raises(SettingsError, match=r"mongodb\.uri_file"):
        load("mongodb: {uri_file: missing}").mongodb.connection_uri()


def test_unreadable_file_is_an_error(folder: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        load_settings(folder / "missing.yaml")
    with pytest.raises(SettingsError, match="directory"):
        load_settings(folder)
    (folder / "binary.yaml").write_bytes(b"\xff\x00")
    with pytest.raises(SettingsError, match="not valid YAML"):
        load_settings(folder / "binary.yaml")


def test_secret_may_be_in_a_file(folder: Path) -> None:
    (folder / "secret").write_text("x" * 40 + "\n")
    (folder / "short").write_text("x" * 31)
    issuer = {"issuer": "x", "audience": "y", "algorithms": ["HS256"]}

    def secret_of(name: str) -> str | None:
        return Issuer.model_validate({**issuer, "secret_file": folder / name}).shared_secret()

    assert secret_of("secret") == "x" * 40
    for name, word in {"short": "at least 32 bytes", "missing": "No such file"}.items():
        with pytest.raises(SettingsError, match=word):
            secret_of(name)
    with pytest.raises(ValidationError, match="either secret or secret_file"):
        Issuer.model_validate({**issuer, "secret": "x" * 40, "secret_file": folder / "secret"})


def test_is_safe_url_requires_tls_or_loopback() -> None:
    for good in (
        "https://a.example/jwks",
        "http://localhost:8/x",
        "http://127.0.0.9",
        "http://[::1]/",
    ):
        assert is_safe_url(good)
    for bad in (
        "http://a.example",
        "http://127.0.0.1@a.example/",
        "http://localhost.a.example/",
        "https://user:password@a.example/",
        "ftp://127.0.0.1/",
        "https://",
        "https://a.example:99999/",
        "https://a.example/ x",
        "https://[::1",
        "//a.example",
        "",
    ):
        assert not is_safe_url(bad)
