"""/openapi.json: the routes that are served, and what their handlers say of themselves."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final, Protocol

from tornado_members import __version__
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
from tornado_members.openapi.headers import ANSWER_HEADERS, REQUEST_HEADERS
from tornado_members.openapi.operation import Answer, Body, Link, Operation, Parameter
from tornado_members.openapi.schemas import (
    PATH_PARAMETERS,
    SCHEMAS,
    problem_kinds,
    problem_schema,
    reference,
)

_PLACE: Final = re.compile(r"\{(\w+)\}")
# Problems of any request, from the HTTP server, AdmittingApplication and BaseHandler. Some occur
# before the method or the path is known.
_OF_ALL_METHODS: Final = (
    *(BadRequest, RequestTooSlow, BodyTooLarge, TargetTooLong, HeadersTooLarge),
    *(InternalError, Overloaded, VersionNotSupported),
)
_ANYWHERE: Final = (*_OF_ALL_METHODS, NotAcceptable, BadParameter, ResponseTimeout)
_WITH_TOKEN: Final = (
    *(TokenMissing, TokenInvalid, PermissionMissing),
    *(TooManyRequests, DependencyUnavailable),
)
_WITH_BODY: Final = (MalformedBody, UnsupportedMediaType)

_INTRODUCTION: Final = """\
Members, read through a cache that does not lie: once a write has been answered, no read that starts
afterwards returns anything older.

Errors are problem objects (RFC 9457) with a stable `code`. The `ETag` of a member is its version:
send it back in `If-None-Match` to read only what is new, in `If-Match` to change only what you have
seen. Query parameters and fields that are not described here are refused."""

_WHO_MAY: Final = """\
A JWT of one of the issuers that this service knows. It grants by its `scope` claim (`members:read`,
`members:write`, `members:delete`, with spaces between them) or by `access_rights` (1 read, 2 read
and write, 3 all, 0 nothing), as the service's settings have it. Each operation names the permission
that it needs."""

_TAGS: Final = {
    "members": "One resource: the member.",
    "login": "Tokens for the users that this service keeps, and the keys that verify them.",
    "description": "What you are reading.",
}


class Described(Protocol):
    """A handler class: its methods' docstrings are the summaries."""

    operations: ClassVar[Mapping[str, Operation]]


Route = tuple[str, type[Described]]


def path_pattern(path: str) -> str:
    """The regular expression of a route's path, with a group for each {parameter}."""
    parts = _PLACE.split(path)  # text and names by turns
    names = [f"({PATH_PARAMETERS[name].pattern})" for name in parts[1::2]]
    texts = [re.escape(text) for text in parts[::2]]
    return "".join(part for pair in zip(texts, [*names, ""], strict=True) for part in pair)


def describe(routes: Sequence[Route], *, never: Collection[type[Problem]] = ()) -> dict[str, Any]:
    """The document of a service that has these routes; `never` are problems that it cannot have."""
    operations = [one for _, handler in routes for one in handler.operations.values()]
    tags = {operation.tag for operation in operations}
    names = {operation.name for operation in operations}
    builder = _Builder(names, never)
    paths = {path: builder.path_item(path, handler) for path, handler in routes}
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "Members",
            "version": __version__,
            "description": _INTRODUCTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "tags": [
            {"name": name, "description": text} for name, text in _TAGS.items() if name in tags
        ],
        "paths": paths,
        "components": {
            "schemas": {name: SCHEMAS[name] for name in SCHEMAS if name in builder.mentioned}
            | {kind.__name__: problem_schema(kind) for kind in builder.problems},
            "responses": builder.responses,
            "parameters": builder.parameters,
            "headers": builder.headers,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": _WHO_MAY,
                }
            },
        },
    }


class _Builder:
    """Gathers the components to which the operations refer."""

    def __init__(self, names: Iterable[str], never: Collection[type[Problem]]) -> None:
        self._names = frozenset(names)
        self._never = never
        self.mentioned: set[str] = set()
        self.responses: dict[str, Any] = {}
        self.parameters: dict[str, Any] = {}
        self.headers: dict[str, Any] = {}
        self._kinds: set[type[Problem]] = set()

    @property
    def problems(self) -> list[type[Problem]]:
        """Those that were referred to, by status and code."""
        return [kind for kind in problem_kinds() if kind in self._kinds]

    def path_item(self, path: str, handler: type[Described]) -> dict[str, Any]:
        """All methods of a path."""
        named: dict[int, str] = {}
        item: dict[str, Any] = {}
        for method, operation in handler.operations.items():
            # Of two methods with one operation, the first has its name.
            first = named.setdefault(id(operation), method) == method
            name = operation.name if first else f"{operation.name}By{method.title()}"
            summary = _first_line(getattr(handler, method.lower()))
            item[method.lower()] = self._operation(path, method, operation, name, summary)
        item["options"] = self._options(path, handler)
        return item

    def _operation(
        self, path: str, method: str, operation: Operation, name: str, summary: str
    ) -> dict[str, Any]:
        found: dict[str, Any] = {
            "operationId": name,
            "tags": [operation.tag],
            "summary": summary,
            "description": _description(operation),
            "parameters": [
                *(_path_parameter(place) for place in _PLACE.findall(path)),
                *(_parameter(name, "query", one) for name, one in operation.query.items()),
                *(self._request_header(name) for name in ("X-Request-Id", *operation.headers)),
            ],
            "security": [{"token": [operation.permission]}] if operation.permission else [],
            "responses": {
                **{
                    str(status): self._answer(method, answer)
                    for status, answer in operation.answers.items()
                },
                **self._problems(method, operation),
            },
        }
        if operation.body:
            found["requestBody"] = self._body(operation.body)
        return found

    def _options(self, path: str, handler: type[Described]) -> dict[str, Any]:
        first = next(iter(handler.operations.values()))
        slug = "".join(word.title() for word in re.findall(r"\w+", path))
        answer = Answer("The methods of this path", headers=("Allow",))
        operation = Operation(name=f"options{slug}", tag=first.tag, answers={204: answer})
        problems = self._problems("OPTIONS", operation, _OF_ALL_METHODS)
        return {
            "operationId": operation.name,
            "tags": [operation.tag],
            "summary": "Which methods the path has",
            "parameters": [
                *(_any_path_parameter(place) for place in _PLACE.findall(path)),
                self._request_header("X-Request-Id"),
            ],
            "security": [],
            "responses": {"204": self._answer("OPTIONS", answer), **problems},
        }

    def _body(self, body: Body) -> dict[str, Any]:
        found: dict[str, Any] = {"required": True, "content": self._content(body)}
        if body.description:
            found["description"] = body.description
        return found

    def _answer(self, method: str, answer: Answer) -> dict[str, Any]:
        always = ("X-Request-Id", "Content-Security-Policy", *answer.headers)
        found: dict[str, Any] = {
            "description": answer.description,
            "headers": self._headers(always, answer.may_have),
        }
        if answer.content and method != "HEAD":
            found["content"] = self._content(answer)
        links = {n: link for n, link in answer.links.items() if link.operation in self._names}
        if links and method != "HEAD":
            found["links"] = {name: _link(link) for name, link in links.items()}
        return found

    def _content(self, carrier: Answer | Body) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for media_type, schema in carrier.content.items():
            self._mention(schema)
            found[media_type] = {"schema": schema}
            if media_type in carrier.examples:
                found[media_type]["example"] = carrier.examples[media_type]
        return found

    def _headers(self, always: Iterable[str], may_have: Iterable[str]) -> dict[str, Any]:
        found = {}
        for name in always:
            self.headers[f"{name}.always"] = {**ANSWER_HEADERS[name], "required": True}
            found[name] = {"$ref": f"#/components/headers/{name}.always"}
        for name in may_have:
            self.headers[name] = ANSWER_HEADERS[name]
            found[name] = {"$ref": f"#/components/headers/{name}"}
        return found

    def _request_header(self, name: str) -> dict[str, Any]:
        """A name may say behind a dot which of two meanings a header has."""
        header = {"name": name.partition(".")[0], "in": "header", **REQUEST_HEADERS[name]}
        self.parameters[name] = header
        return {"$ref": f"#/components/parameters/{name}"}

    def _problems(
        self,
        method: str,
        operation: Operation,
        anywhere: Sequence[type[Problem]] = _ANYWHERE,
    ) -> dict[str, Any]:
        """The answers that are problems, a status each."""
        kinds: list[type[Problem]] = [*anywhere, *operation.problems]
        if operation.permission:
            kinds += _WITH_TOKEN
        if operation.body:
            kinds += _WITH_BODY
        kinds = [kind for kind in kinds if kind not in self._never]
        by_status: dict[int, list[type[Problem]]] = {}
        for kind in problem_kinds():
            if kind in kinds:
                by_status.setdefault(kind.status, []).append(kind)
        return {
            str(status): self._problem(method, by_status[status]) for status in sorted(by_status)
        }

    def _problem(self, method: str, kinds: list[type[Problem]]) -> dict[str, Any]:
        """One answer, which may be of several kinds."""
        self._kinds.update(kinds)
        has_body = method != "HEAD"
        name = "Or".join(kind.__name__ for kind in kinds) + ("" if has_body else ".head")
        common = [name for name in kinds[0].always_headers if _all_have(kinds, name)]
        some = {name for kind in kinds for name in kind.may_have_headers + kind.always_headers}
        always = ("X-Request-Id", "Content-Security-Policy", "Cache-Control", *common)
        found: dict[str, Any] = {
            "description": "; ".join(kind.title for kind in kinds),
            "headers": self._headers(always, sorted(some - {*common})),
        }
        if has_body:
            references = [reference(kind.__name__) for kind in kinds]
            schema = references[0] if len(kinds) == 1 else {"oneOf": references}
            found["content"] = {"application/problem+json": {"schema": schema}}
        self.responses[name] = found
        return {"$ref": f"#/components/responses/{name}"}

    def _mention(self, schema: Any) -> None:
        """Note the components that a schema refers to, and those to which they do."""
        for name in re.findall(r"'#/components/schemas/(\w+)'", str(schema)):
            if name not in self.mentioned:
                self.mentioned.add(name)
                self._mention(SCHEMAS[name])


def _all_have(kinds: Iterable[type[Problem]], header: str) -> bool:
    return all(header in kind.always_headers for kind in kinds)


def _description(operation: Operation) -> str:
    needs = operation.permission
    text = f"Needs the permission `{needs}`." if needs else "For everybody, without a token."
    return f"{text} {operation.description}".strip()


def _first_line(method: Any) -> str:
    return (method.__doc__ or "").strip().partition("\n")[0].rstrip(".")


def _parameter(name: str, place: str, parameter: Parameter) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": name,
        "in": place,
        "description": parameter.description,
        "schema": parameter.schema,
    }
    if parameter.example is not None:
        found["example"] = parameter.example
    return found


def _path_parameter(name: str) -> dict[str, Any]:
    return {**_parameter(name, "path", PATH_PARAMETERS[name]), "required": True}


def _any_path_parameter(name: str) -> dict[str, Any]:
    """Whatever stands there, the methods are the same."""
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": "Whatever it is.",
        "schema": {"type": "string", "minLength": 1},
    }


def _link(link: Link) -> dict[str, Any]:
    return {
        "operationId": link.operation,
        "parameters": dict(link.parameters),
        "description": link.description,
    }
