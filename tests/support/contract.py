"""The document at /openapi.json, as a judge of the answers that tests see."""

import gzip
import json
import re
from collections.abc import Mapping
from functools import cache
from http import HTTPStatus
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012
from tornado.httpclient import HTTPResponse

_ADDRESS = "urn:openapi.json"


class Contract:
    """What a service says of its API."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        resource = Resource.from_contents(document, default_specification=DRAFT202012)
        self.document = document
        self._registry = Registry[Any]().with_resource(_ADDRESS, resource)
        # As the routes are matched: what stands before what, the first one first.
        self._paths = {re.compile(_pattern(path)): item for path, item in document["paths"].items()}
        self._validators: dict[str, Draft202012Validator] = {}

    def follow(self, part: Mapping[str, Any]) -> Mapping[str, Any]:
        """What a reference within the document leads to; what is none is that itself."""
        if "$ref" not in part:
            return part
        found: Any = self.document
        for step in part["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        return self.follow(found)

    def faults(self, schema: Mapping[str, Any], value: Any) -> list[str]:
        """What is wrong with a value."""
        key = json.dumps(schema)
        if key not in self._validators:
            text = key.replace('"#/', f'"{_ADDRESS}#/')
            self._validators[key] = Draft202012Validator(
                json.loads(text),
                registry=self._registry,
                format_checker=Draft202012Validator.FORMAT_CHECKER,
            )
        return [error.message for error in self._validators[key].iter_errors(value)]

    def check(self, method: str, path: str, answer: HTTPResponse) -> None:
        """That an answer is one that the document tells of: its status, its headers, its body."""
        found = [item for pattern, item in self._paths.items() if pattern.fullmatch(path)]
        where = f"{method} {path}: {answer.code}"
        if not found:
            assert answer.code in (HTTPStatus.NOT_FOUND, HTTPStatus.REQUEST_ENTITY_TOO_LARGE), where
            return
        operation = found[0].get(method.lower())
        if operation is None:
            assert answer.code in (405, 413, 400), where
            return
        assert str(answer.code) in operation["responses"], f"{where} is not in /openapi.json"
        described = self.follow(operation["responses"][str(answer.code)])
        for name, header in described.get("headers", {}).items():
            self._check_header(where, name, self.follow(header), answer.headers.get(name))
        if content := described.get("content"):
            media_type = answer.headers["Content-Type"].partition(";")[0]
            assert media_type in content, f"{where} is {media_type}"
            if media_type.endswith(("/json", "+json")):
                is_short = answer.headers.get("Content-Encoding") == "gzip"
                body = gzip.decompress(answer.body) if is_short else answer.body
                faults = self.faults(content[media_type]["schema"], json.loads(body))
                assert not faults, f"{where}: {faults}: {answer.body[:500]!r}"
        else:
            assert not answer.body, f"{where} has a body"

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
    """Of a path as it stands in the document."""
    return re.sub(r"\\\{name\\\}", ".+", re.sub(r"\\\{(?!name)\w+\\\}", "[^/]+", re.escape(path)))


@cache
def contract_of(document: bytes) -> Contract:
    """One for all tests whose service says the same."""
    return Contract(json.loads(document))
