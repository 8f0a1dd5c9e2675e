"""Checks the responses in tests against /openapi.json."""

import gzip
import json
import re
from collections.abc import Mapping
from functools import cache
from http import HTTPStatus
from typing import Any

from jsonschema_rs import Draft202012Validator, Registry
from tornado.httpclient import HTTPResponse

_ADDRESS = "urn:openapi.json"


class Contract:
    """The OpenAPI description of a service."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document
        self._base_path = document["servers"][0]["url"].rstrip("/")
        self._registry = Registry([(_ADDRESS, dict(document))])
        # In the order in which the routes are matched.
        self._paths = {re.compile(_pattern(path)): item for path, item in document["paths"].items()}
        self._validators: dict[str, Draft202012Validator] = {}

    def follow(self, part: Mapping[str, Any]) -> Mapping[str, Any]:
        """Resolve a part of the document if it is a reference."""
        if "$ref" not in part:
            return part
        found: Any = self.document
        for step in part["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        return self.follow(found)

    def faults(self, schema: Mapping[str, Any], value: Any) -> list[str]:
        """Return the faults of a value against a schema."""
        key = json.dumps(schema)
        if key not in self._validators:
            text = key.replace('"#/', f'"{_ADDRESS}#/')
            self._validators[key] = Draft202012Validator(
                json.loads(text), registry=self._registry, validate_formats=True
            )
        return [error.message for error in self._validators[key].iter_errors(value)]

    def check(self, method: str, path: str, response: HTTPResponse) -> None:
        """Assert that the document describes a response: its status, headers and body."""
        is_below = path.startswith(f"{self._base_path}/")
        below = path[len(self._base_path) :] if is_below else ""
        found = [item for pattern, item in self._paths.items() if pattern.fullmatch(below)]
        where = f"{method} {path}: {response.code}"
        if not found:
            allowed = {HTTPStatus.NOT_FOUND, HTTPStatus.REQUEST_ENTITY_TOO_LARGE}
            if method == "OPTIONS":  # of the whole server
                allowed.add(HTTPStatus.NO_CONTENT)
            assert response.code in allowed, where
            return
        if method == "OPTIONS" and response.code == HTTPStatus.NO_CONTENT:
            methods = {name.upper() for name in found[0]}
            assert methods <= set(response.headers["Allow"].split(", ")), where
            return
        # A response to HEAD equals the one to GET, without its body (RFC 9110 §9.3.2).
        operation = found[0].get("get" if method == "HEAD" else method.lower())
        if operation is None:
            assert response.code in (405, 413, 400), where
            return
        assert str(response.code) in operation["responses"], f"{where} is not in /openapi.json"
        described = self.follow(operation["responses"][str(response.code)])
        for name, header in described.get("headers", {}).items():
            self._check_header(where, name, self.follow(header), response.headers.get(name))
        content = described.get("content")
        if content and method != "HEAD":
            media_type = response.headers["Content-Type"].partition(";")[0]
            assert media_type in content, f"{where} is {media_type}"
            if media_type.endswith(("/json", "+json")):
                is_short = response.headers.get("Content-Encoding") == "gzip"
                body = gzip.decompress(response.body) if is_short else response.body
                faults = self.faults(content[media_type]["schema"], json.loads(body))
                assert not faults, f"{where}: {faults}: {response.body[:500]!r}"
        else:
            assert not response.body, f"{where} has a body"

    def _check_header(
        self, where: str, name: str, header: Mapping[str, Any], value: str | None
    ) -> None:
        if value is None:
            assert not header.get("required"), f"{where} has no {name}"
            return
        schema = header["schema"]
        read = int(value) if schema.get("type") == "integer" else value
        faults = self.faults(schema, read)
        assert not faults, f"{where}: {name}: {faults}"


def _pattern(path: str) -> str:
    """Return the regular expression of a path of the document."""
    return re.sub(r"\\\{name\\\}", ".+", re.sub(r"\\\{(?!name)\w+\\\}", "[^/]+", re.escape(path)))


@cache
def contract_of(document: bytes) -> Contract:
    """Return the contract of a description; tests with the same description share it."""
    return Contract(json.loads(document))
