"""Describes the operations of a path, and collects the components that they refer to."""

import json
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, ClassVar, Final, Protocol

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
from tornado_members.openapi.components import make_schemas
from tornado_members.openapi.headers import REQUEST_HEADERS, RESPONSE_HEADERS
from tornado_members.openapi.operation import Body, Link, Operation, Parameter, Response
from tornado_members.openapi.path_parameters import PATH_PARAMETERS, parameter_names
from tornado_members.openapi.problems import problem_kinds
from tornado_members.openapi.schemas import reference

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


class Described(Protocol):
    """A handler class with declared operations."""

    operations: ClassVar[Mapping[str, Operation]]


class PathItems:
    """Describes paths, and collects the components that their operations refer to."""

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
        return {name: schema for name, schema in self._schemas.items() if name in self._mentioned}

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
                *(_path_parameter(place) for place in parameter_names(path)),
                *(_parameter(name, "query", parameter) for name, parameter in parameters.items()),
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
