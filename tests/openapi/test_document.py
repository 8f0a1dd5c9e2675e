"""/openapi.json is valid and complete, and describes only what the service serves."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openapi_spec_validator import validate

from tests.support.api import Api, parsed, problem
from tests.support.contract import Contract
from tornado_members.app import (
    ALL_ROUTES,
    CALLER_ROUTE,
    CONSOLE_FILE_ROUTE,
    CONSOLE_ROUTE,
    OPENAPI_ROUTE,
    ROUTES,
)
from tornado_members.errors import InvalidMember, Problem
from tornado_members.handlers.importing import ImportHandler
from tornado_members.model.member import parse_draft
from tornado_members.openapi.document import describe
from tornado_members.openapi.problems import problem_kinds

DOCUMENT = json.loads(json.dumps(describe(ALL_ROUTES)))
CONTRACT = Contract(DOCUMENT)


def operations() -> list[Any]:
    """Every operation, with its method and path."""
    return [
        pytest.param(operation, id=f"{method.upper()} {path}")
        for path, item in DOCUMENT["paths"].items()
        for method, operation in item.items()
    ]


def test_document_is_valid() -> None:
    validate(DOCUMENT)
    names = [param.values[0]["operationId"] for param in operations()]
    assert len(set(names)) == len(names)


def test_document_has_exactly_the_routes_and_methods() -> None:
    described = {(path, m.upper()) for path, item in DOCUMENT["paths"].items() for m in item}
    served = {(path, m) for path, handler in ALL_ROUTES for m in handler.operations if m != "HEAD"}
    assert described == served


def test_handlers_implement_exactly_their_declared_methods() -> None:
    for _, handler in ALL_ROUTES:
        if handler is ImportHandler:
            continue  # it discards the bodies of all requests that it refuses
        for method in ("get", "head", "post", "put", "patch", "delete"):
            is_written = "_unimplemented" not in getattr(handler, method).__name__
            assert is_written == (method.upper() in handler.operations), (handler, method)


def test_document_has_every_problem() -> None:
    """All of errors.py but 405, which is for methods that a path does not have."""
    listed = {
        schema["properties"]["code"]["const"]
        for schema in DOCUMENT["components"]["schemas"].values()
        if "code" in schema.get("properties", {})
    }
    assert listed == {kind.code for kind in problem_kinds(Problem)} - {"method-not-allowed"}


@pytest.mark.parametrize("operation", operations())
def test_examples_match_their_schemas(operation: dict[str, Any]) -> None:
    answers = [CONTRACT.follow(response) for response in operation["responses"].values()]
    for carrier in [operation.get("requestBody", {}), *answers]:
        for content in carrier.get("content", {}).values():
            if "example" in content:
                assert CONTRACT.faults(content["schema"], content["example"]) == []
    parameters = [CONTRACT.follow(parameter) for parameter in operation["parameters"]]
    headers = [CONTRACT.follow(h) for response in answers for h in response["headers"].values()]
    for described in [*parameters, *headers]:
        if "example" in described:
            assert CONTRACT.faults(described["schema"], described["example"]) == []


def test_fields_have_valid_examples() -> None:
    for schema in DOCUMENT["components"]["schemas"].values():
        for field in schema["properties"].values():
            for example in field.get("examples", []):
                assert CONTRACT.faults(field, example) == []


@pytest.mark.parametrize("operation", operations())
def test_operations_are_described(operation: dict[str, Any]) -> None:
    assert operation["summary"]
    assert len(operation["summary"]) <= 80
    for parameter in map(CONTRACT.follow, operation["parameters"]):
        assert parameter["description"]


MEMBER_TEXT = st.text(
    st.characters(exclude_categories=["Cs"]) | st.sampled_from("0123+()x \t\u00a0\u2028@.eExtT"),
    max_size=12,
)
DRAFTS = st.fixed_dictionaries(
    {},
    optional={
        "name": MEMBER_TEXT | st.none() | st.integers(),
        "phone": MEMBER_TEXT | st.from_regex(r"\A[0-9xX +ext]{3,8}\Z") | st.none() | st.booleans(),
        "what": st.none(),
    },
)


@given(DRAFTS)
def test_schema_of_a_member_accepts_what_the_service_accepts(body: dict[str, Any]) -> None:
    schema = {"$ref": "#/components/schemas/MemberDraft"}
    try:
        parse_draft(body)
        faults: Any = ()
    except InvalidMember as error:
        faults = error.faults
    assert bool(CONTRACT.faults(schema, body)) is bool(faults), faults


@pytest.mark.parametrize(
    ("field", "value", "fits"),
    [
        ("name", "n" * 255, True),
        ("name", "n" * 256, False),
        ("name", "  " + "n" * 255 + "\u3000\n", True),
        ("name", " \t ", False),
        ("name", "a\u0000b", False),
        ("phone", "1" * 255, True),
        ("phone", "1" * 256, False),
        ("phone", "12 ext 3", True),
        ("phone", "123 te", False),
    ],
)
def test_schema_of_a_member_has_the_limits_of_the_service(
    field: str, value: str, fits: bool
) -> None:
    body = {"name": "Ada", field: value}
    schema = {"$ref": "#/components/schemas/MemberDraft"}
    assert (CONTRACT.faults(schema, body) == []) is fits
    if fits:
        parse_draft(body)
    else:
        with pytest.raises(InvalidMember):
            parse_draft(body)


async def test_document_is_public_and_has_an_etag(api: Api, contract: Contract) -> None:
    answer = await api("GET", "/openapi.json", rights=None)
    assert answer.code == 200
    assert parsed(answer) == contract.document
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "public, no-cache"
    tag = answer.headers["ETag"]
    again = await api("GET", "/openapi.json", headers={"If-None-Match": f'"x", W/{tag}'})
    assert (again.code, again.body) == (304, b"")
    assert again.headers["ETag"] == tag
    plain = await api("GET", "/openapi.json", decompress_response=False)
    assert plain.body == answer.body
    assert plain.headers["ETag"] != tag


async def test_document_omits_what_this_service_lacks(api: Api) -> None:
    """The service of these tests signs nothing, so it has neither a login nor keys."""
    document = parsed(await api("GET", "/openapi.json"))
    assert set(document["paths"]) == {
        path
        for path, _ in [*ROUTES, CALLER_ROUTE, CONSOLE_ROUTE, CONSOLE_FILE_ROUTE, OPENAPI_ROUTE]
    }
    assert "precondition-required" not in json.dumps(document)
    assert "Credentials" not in document["components"]["schemas"]


async def test_contract_refuses_responses_that_are_not_described(api: Api) -> None:
    for path in ("/members?sort=name&colour=red", "/members/1?colour=red", "/docs?colour=red"):
        found = problem(await api("GET", path), 400, "bad-parameter")
        assert found["parameter"] == "colour"
    problem(await api("GET", "/members?sort=name&sort=name"), 400, "bad-parameter")
    problem(await api("GET", "/members/1?colour=red", rights=None), 401, "token-missing")
