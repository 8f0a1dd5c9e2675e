"""The classes with which handlers declare their operations.

`AdmissionControl` enforces the declarations: permissions, query parameters and media types.
`document.py` generates OpenAPI from the same declarations, so the two cannot differ.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tornado.httputil import HTTPServerRequest

from tornado_members.errors import Problem
from tornado_members.model.attributes import MAX_JSON_BYTES, Attribute
from tornado_members.model.fields import FieldTable
from tornado_members.settings import Permission

JSON = "application/json"
NDJSON = "application/x-ndjson"
CSV = "text/csv"

# The attributes of a member in a body. A client may escape each character, so that its three bytes
# of UTF-8 take six or more.
MAX_ATTRIBUTES_BYTES = 3 * MAX_JSON_BYTES

Schema = Mapping[str, Any]
# A schema or an example that depends on the fields of members is a function of their table.
OfFields = Callable[[FieldTable], Any]
# Returns True if a request concerns the caller's own member, of this id, and nothing else.
OwnRequest = Callable[[HTTPServerRequest, int], bool]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of the query, or a part of the path."""

    description: str
    schema: Schema
    example: Any = None
    is_repeatable: bool = field(default=False, kw_only=True)  # in a query
    is_required: bool = field(default=False, kw_only=True)  # in a query


@dataclass(frozen=True, slots=True)
class PathParameter(Parameter):
    """`pattern` is the regular expression of the segment in the route."""

    pattern: str = "[^/]+"


@dataclass(frozen=True, slots=True)
class Body:
    """The body of a request: media types, each with its schema, and an example of each."""

    content: Mapping[str, Schema | OfFields]
    examples: Mapping[str, Any] = field(default_factory=dict)
    description: str = ""
    # Unused by operations that read their body as a stream. Checking JSON takes 0.2 ms per KiB.
    max_bytes: int = 16 * 1024
    holds_member: bool = False  # with attributes, it may have MAX_ATTRIBUTES_BYTES more

    def limit(self, fields: FieldTable) -> int:
        """Return the maximum size in bytes, for members with these fields."""
        more = MAX_ATTRIBUTES_BYTES if self.holds_member and fields.attributes else 0
        return self.max_bytes + more

    @property
    def media_type(self) -> str:
        """The first media type."""
        return next(iter(self.content))


@dataclass(frozen=True, slots=True)
class Link:
    """A link to another operation: its name, and the source of its parameters in the response."""

    operation: str
    parameters: Mapping[str, str]
    description: str


@dataclass(frozen=True, slots=True)
class Response:
    """The response to a successful request.

    `headers` are always present, `may_have` sometimes; `headers.py` describes both.
    """

    description: str
    content: Mapping[str, Schema | OfFields] = field(default_factory=dict)
    examples: Mapping[str, Any] = field(default_factory=dict)
    headers: tuple[str, ...] = ()
    may_have: tuple[str, ...] = ()
    links: Mapping[str, Link] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of a path; two may share one, as HEAD does with GET.

    `name` is the OpenAPI operationId. Without `permission` and `requires_token`, no token is
    required. `is_own` decides for a caller that has the permission for its own member only; without
    it, such a caller is refused. `problems` are those of the operation itself. Those of any request
    (no token, an unknown parameter, a body of another type ...) are added.
    """

    name: str
    summary: str  # at most 80 characters
    tag: str
    responses: Mapping[int, Response]
    permission: Permission | None = None
    requires_token: bool = False  # any valid token, if `permission` is None
    is_own: OwnRequest | None = None
    query: Mapping[str, Parameter] = field(default_factory=dict)
    filters_attributes: bool = False  # by parameters such as attributes.level, if indexed
    headers: tuple[str, ...] = ()
    body: Body | None = None
    problems: tuple[type[Problem], ...] = ()
    description: str = ""
    media_types: tuple[str, ...] = field(init=False)  # of its responses, the first one preferred

    def parameters(self, fields: FieldTable) -> Mapping[str, Parameter]:
        """Return the parameters of the query, for members of these fields."""
        if not self.filters_attributes or not fields.attributes:
            return self.query
        indexed = (attribute for attribute in fields.attributes if attribute.indexed)
        return {**self.query, **{attribute.path: _filter_of(attribute) for attribute in indexed}}

    def __post_init__(self) -> None:
        found = [media_type for answer in self.responses.values() for media_type in answer.content]
        # Without a body in any response, only problems are negotiated.
        object.__setattr__(self, "media_types", tuple(dict.fromkeys(found)) or (JSON,))


def _filter_of(attribute: Attribute) -> Parameter:
    """Return the parameter of lists that filters by an attribute."""
    which = "one of these values in" if attribute.is_list else "this value of"
    return Parameter(
        f"Only members with {which} the attribute {attribute.name}.",
        attribute.filter_schema(),
        attribute.example_item(),
    )
