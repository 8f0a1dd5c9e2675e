"""Builds /openapi.json from the routes and the declarations of their handlers."""

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final, Protocol

from tornado_members import __version__
from tornado_members.auth.permissions import OWN
from tornado_members.errors import (
    BadParameter,
    BadRequest,
    BodyTooLarge,
    DependencyUnavailable,
    HeadersTooLarge,
    InternalError,
    MalformedBody,
    NotAcceptable,
    Overloaded,
    PermissionMissing,
    Problem,
    RequestTooSlow,
    ResponseTimeout,
    TargetTooLong,
    TokenInvalid,
    TokenMissing,
    TooManyRequests,
    UnsupportedMediaType,
    VersionNotSupported,
)
from tornado_members.model.fields import FieldTable
from tornado_members.model.member import MEMBER_FIELDS
from tornado_members.openapi.headers import REQUEST_HEADERS, RESPONSE_HEADERS
from tornado_members.openapi.operation import Body, Link, Operation, Parameter, Response
from tornado_members.openapi.schemas import (
    PATH_PARAMETERS,
    make_schemas,
    problem_kinds,
    problem_schema,
    reference,
)

_PLACE: Final = re.compile(r"\{(\w+)\}")
# Problems of any request, from the HTTP server, AdmittingApplication and BaseHandler. Some occur
# before the method or the path is known.
_ANYWHERE: Final = (
    *(BadRequest, BadParameter, RequestTooSlow, BodyTooLarge, TargetTooLong, HeadersTooLarge),
    *(NotAcceptable, InternalError, Overloaded, ResponseTimeout, VersionNotSupported),
)
_WITH_TOKEN: Final = (
    *(TokenMissing, TokenInvalid, PermissionMissing),
    *(TooManyRequests, DependencyUnavailable),
)
_WITH_BODY: Final = (MalformedBody, UnsupportedMediaType)

_INTRODUCTION: Final = """\
Members, read through a linearizable cache: a read that starts after a write was acknowledged never
returns an older version.

Errors are problem objects (RFC 9457) with a stable `code`. The `ETag` of a member is its version.
Send it in `If-None-Match` to fetch a member only if it changed, and in `If-Match` to change only
the version that you have read. Every resource supports `OPTIONS`, and `HEAD` wherever it supports
`GET`. Query parameters and fields that are not described here are refused."""

_AUTHENTICATION: Final = """\
A JWT of one of the configured issuers. By default the claim `scope` (`members:read`,
`members:write`, `members:delete`, separated by spaces) and the claim `access_rights` (1 read, 2
read and write, 3 all, 0 nothing) grant permissions; the settings can name other claims. Each
operation names the permission that it requires."""

_TAGS: Final = {
    "members": "Members, one by one or many at once.",
    "login": "Tokens for the users of this service, and the keys that verify them.",
    "users": "The users of the login, for administrators.",
    "console": "A page to manage members.",
    "description": "This description of the API.",
}


class Described(Protocol):
    """A handler class with declared operations."""

    operations: ClassVar[Mapping[str, Operation]]


Route = tuple[str, type[Described]]


def path_pattern(path: str) -> str:
    """Return the regular expression of a route, with one group for each {parameter}."""
    parts = _PLACE.split(path)  # alternately text and names
    names = [f"({PATH_PARAMETERS[name].pattern})" for name in parts[1::2]]
    texts = [re.escape(text) for text in parts[::2]]
    return "".join(part for pair in zip(texts, [*names, ""], strict=True) for part in pair)


def describe(
    routes: Sequence[Route],
    *,
    never: Collection[type[Problem]] = (),
    fields: FieldTable = MEMBER_FIELDS,
    base_path: str = "",
) -> dict[str, Any]:
    """Describe a service with these routes; `never` are problems that cannot occur in it."""
    operations = [one for _, handler in routes for one in handler.operations.values()]
    tags = {operation.tag for operation in operations}
    names = {operation.name for operation in operations}
    builder = _Builder(names, never, fields)
    paths = {path: builder.path_item(path, handler) for path, handler in routes}
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "Members",
            "version": __version__,
            "description": _INTRODUCTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": base_path or "/"}],
        "tags": [
            {"name": name, "description": text} for name, text in _TAGS.items() if name in tags
        ],
        "paths": paths,
        "components": {
            "schemas": builder.mentioned_schemas()
            | {kind.__name__: problem_schema(kind) for kind in builder.problems},
            "responses": builder.responses,
            "parameters": builder.parameters,
            "headers": builder.headers,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": _AUTHENTICATION,
                }
            },
        },
    }


class _Builder:
    """Collects the components that the operations refer to."""

    def __init__(
        self, names: Iterable[str], never: Collection[type[Problem]], fields: FieldTable
    ) -> None:
        self._names = frozenset(names)
        self._fields = fields
        self._schemas = make_schemas(fields)
        self._never = never
        self._mentioned: set[str] = set()
        self.responses: dict[str, Any] = {}
        self.parameters: dict[str, Any] = {}
        self.headers: dict[str, Any] = {}
        self._kinds: set[type[Problem]] = set()

    def mentioned_schemas(self) -> dict[str, Any]:
        """Return the schemas that were referred to."""
        return {name: one for name, one in self._schemas.items() if name in self._mentioned}

    @property
    def problems(self) -> list[type[Problem]]:
        """The problems that were referred to."""
        return [kind for kind in problem_kinds() if kind in self._kinds]

    def path_item(self, path: str, handler: type[Described]) -> dict[str, Any]:
        """Describe the methods of a path. HEAD and OPTIONS, which every path has, are left out."""
        named: dict[int, str] = {}
        item: dict[str, Any] = {}
        for method, operation in handler.operations.items():
            if method == "HEAD":
                continue
            # If two methods share an operation, the first has its name.
            first = named.setdefault(id(operation), method) == method
            name = operation.name if first else f"{operation.name}By{method.title()}"
            item[method.lower()] = self._operation(path, operation, name)
        return item

    def _operation(self, path: str, operation: Operation, name: str) -> dict[str, Any]:
        parameters = operation.parameters(self._fields)
        found: dict[str, Any] = {
            "operationId": name,
            "tags": [operation.tag],
            "summary": operation.summary,
            "description": _description(operation),
            "parameters": [
                *(_path_parameter(place) for place in _PLACE.findall(path)),
                *(_parameter(name, "query", one) for name, one in parameters.items()),
                *(self._request_header(name) for name in ("X-Request-Id", *operation.headers)),
            ],
            "security": _security(operation),
            "responses": {
                **{
                    str(status): self._response(answer)
                    for status, answer in operation.responses.items()
                },
                **self._problems(operation),
            },
        }
        if operation.body:
            found["requestBody"] = self._body(operation.body)
        return found

    def _body(self, body: Body) -> dict[str, Any]:
        found: dict[str, Any] = {"required": True, "content": self._content(body)}
        if body.description:
            found["description"] = body.description
        return found

    def _response(self, answer: Response) -> dict[str, Any]:
        always = ("X-Request-Id", "Content-Security-Policy", *answer.headers)
        found: dict[str, Any] = {
            "description": answer.description,
            "headers": self._headers(always, answer.may_have),
        }
        if answer.content:
            found["content"] = self._content(answer)
        links = {n: link for n, link in answer.links.items() if link.operation in self._names}
        if links:
            found["links"] = {name: _link(link) for name, link in links.items()}
        return found

    def _content(self, carrier: Response | Body) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for media_type, declared in carrier.content.items():
            schema = self._resolve(declared)
            self._mention(schema)
            found[media_type] = {"schema": schema}
            if media_type in carrier.examples:
                found[media_type]["example"] = self._resolve(carrier.examples[media_type])
        return found

    def _resolve(self, declared: Any) -> Any:
        """Return a schema or an example, which may depend on the fields of members."""
        return declared(self._fields) if callable(declared) else declared

    def _headers(self, always: Iterable[str], may_have: Iterable[str]) -> dict[str, Any]:
        """Describe headers; a suffix of a name after a dot selects one of two meanings."""
        found = {}
        for name in always:
            self.headers[f"{name}.always"] = {**RESPONSE_HEADERS[name], "required": True}
            found[_name(name)] = {"$ref": f"#/components/headers/{name}.always"}
        for name in may_have:
            self.headers[name] = RESPONSE_HEADERS[name]
            found[_name(name)] = {"$ref": f"#/components/headers/{name}"}
        return found

    def _request_header(self, name: str) -> dict[str, Any]:
        """Describe a header; a suffix of its name after a dot selects one of two meanings."""
        header = {"name": _name(name), "in": "header", **REQUEST_HEADERS[name]}
        self.parameters[name] = header
        return {"$ref": f"#/components/parameters/{name}"}

    def _problems(self, operation: Operation) -> dict[str, Any]:
        """Describe the responses that are problems, by status."""
        kinds: list[type[Problem]] = [*_ANYWHERE, *operation.problems]
        if operation.permission:
            kinds += _WITH_TOKEN
        if operation.body:
            kinds += _WITH_BODY
        kinds = [kind for kind in kinds if kind not in self._never]
        by_status: dict[int, list[type[Problem]]] = {}
        for kind in problem_kinds():
            if kind in kinds:
                by_status.setdefault(kind.status, []).append(kind)
        return {str(status): self._problem(by_status[status]) for status in sorted(by_status)}

    def _problem(self, kinds: list[type[Problem]]) -> dict[str, Any]:
        """Describe a response that is one of several kinds of problem."""
        self._kinds.update(kinds)
        name = "Or".join(kind.__name__ for kind in kinds)
        common = [name for name in kinds[0].always_headers if _all_have(kinds, name)]
        some = {name for kind in kinds for name in kind.may_have_headers + kind.always_headers}
        always = ("X-Request-Id", "Content-Security-Policy", "Cache-Control", *common)
        found: dict[str, Any] = {
            "description": "; ".join(kind.title for kind in kinds),
            "headers": self._headers(always, sorted(some - {*common})),
        }
        references = [reference(kind.__name__) for kind in kinds]
        schema = references[0] if len(kinds) == 1 else {"oneOf": references}
        found["content"] = {"application/problem+json": {"schema": schema}}
        self.responses[name] = found
        return {"$ref": f"#/components/responses/{name}"}

    def _mention(self, schema: Any) -> None:
        """Record the components that a schema refers to, recursively."""
        for name in re.findall(r"'#/components/schemas/(\w+)'", str(schema)):
            if name not in self._mentioned:
                self._mentioned.add(name)
                self._mention(self._schemas[name])


def _name(header: str) -> str:
    return header.partition(".")[0]


def _all_have(kinds: Iterable[type[Problem]], header: str) -> bool:
    return all(header in kind.always_headers for kind in kinds)


def _permissions(operation: Operation) -> list[str]:
    """Return the permissions of which each one alone allows an operation."""
    if operation.permission is None:
        return []
    own = OWN.get(operation.permission)
    return [operation.permission, own] if own and operation.is_own else [operation.permission]


def _security(operation: Operation) -> list[dict[str, list[str]]]:
    if operation.requires_token:
        return [{"token": []}]
    return [{"token": [permission]} for permission in _permissions(operation)]


def _description(operation: Operation) -> str:
    needs, *own = [f"`{permission}`" for permission in _permissions(operation)] or [""]
    if operation.requires_token:
        return f"Requires a valid token. {operation.description}".strip()
    text = f"Requires the permission {needs}" if needs else "Requires no token"
    text += f", or {own[0]} for the caller's own member." if own else "."
    return f"{text} {operation.description}".strip()


def _parameter(name: str, place: str, parameter: Parameter) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": name,
        "in": place,
        "description": parameter.description,
        "schema": {key: value for key, value in parameter.schema.items() if key != "default"},
    }
    if "default" in parameter.schema:
        # As text: generated clients would send a default of the schema with every request.
        default = json.dumps(parameter.schema["default"]).strip('"')
        found["description"] += f" The default is `{default}`."
    if parameter.is_required:
        found["required"] = True
    if parameter.example is not None:
        found["example"] = parameter.example
    return found


def _path_parameter(name: str) -> dict[str, Any]:
    return {**_parameter(name, "path", PATH_PARAMETERS[name]), "required": True}


def _link(link: Link) -> dict[str, Any]:
    return {
        "operationId": link.operation,
        "parameters": dict(link.parameters),
        "description": link.description,
    }
