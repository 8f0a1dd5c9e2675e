"""The parameters of paths: how they are described, and which paths a route matches."""

import re
from collections.abc import Mapping
from typing import Final

from tornado_members.model.member import MAX_MEMBER_ID, MEMBER_FIELDS
from tornado_members.model.names import PATH_NAME_PATTERN
from tornado_members.openapi.examples import EXAMPLE_ID
from tornado_members.openapi.operation import PathParameter

_PLACE: Final = re.compile(r"\{(\w+)\}")

# The files of /docs; docs.js starts the viewer, Swagger UI.
PAGE_FILES: Final = ("docs.js", "docs.css", "swagger-ui.css", "swagger-ui-bundle.js")

PATH_PARAMETERS: Final[Mapping[str, PathParameter]] = {
    "memberId": PathParameter(
        "The id of the member. An invalid id is a 404.",
        {"type": "integer", "minimum": 1, "maximum": MAX_MEMBER_ID},
        EXAMPLE_ID,
    ),
    "name": PathParameter(
        "The name of the member, percent-encoded. It is compared in Unicode NFC, without "
        "surrounding white space. A name with `/` or `\\` is a 400.",
        {"type": "string", "pattern": PATH_NAME_PATTERN},
        MEMBER_FIELDS["name"].example,
        pattern=".+",
    ),
    "username": PathParameter(
        "The name of the user, percent-encoded. It is compared in Unicode NFC, without surrounding "
        "white space.",
        {"type": "string", "minLength": 1},
        "ada",
    ),
    "asset": PathParameter("The name of the file.", {"type": "string"}, "main.js"),
    "file": PathParameter(
        "The name of the file.", {"type": "string", "enum": PAGE_FILES}, PAGE_FILES[0]
    ),
}


def parameter_names(path: str) -> list[str]:
    """Return the names of the parameters in a path, in order."""
    return _PLACE.findall(path)


def path_pattern(path: str) -> str:
    """Return the regular expression of a route, with one group for each {parameter}."""
    parts = _PLACE.split(path)  # alternately text and names
    names = [f"({PATH_PARAMETERS[name].pattern})" for name in parts[1::2]]
    texts = [re.escape(text) for text in parts[::2]]
    return "".join(part for pair in zip(texts, [*names, ""], strict=True) for part in pair)
