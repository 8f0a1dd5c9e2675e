"""Checks, before the measurement, that a contestant responds as the service does."""

from collections.abc import Iterator
from typing import Any

from benchmarks.load.bed import Bed
from benchmarks.load.blocking_client import BlockingClient, Response
from benchmarks.load.contestants import Running
from benchmarks.load.sampling import LOOKUP_PATH, batch_path, to_member
from benchmarks.load.scenarios import BY_NAME

_CHECKED = 4242  # a member that no load requests first


def find_differences(running: Running, bed: Bed) -> list[str]:
    """Return the differences, one line each."""
    return [line for line in _differences(running, bed) if line]


def _differences(running: Running, bed: Bed) -> Iterator[str]:
    """Yield a line for each check; it is empty if the response is as expected."""
    path = f"/members/{_CHECKED}"
    client = BlockingClient(running.port, bed.token())
    members = bed.members(running.contestant.name)

    def stored() -> dict[str, Any]:
        return to_member(members.find_one({"_id": _CHECKED}) or {})

    for _ in range(2):  # a miss, and a hit
        yield _differs("GET", client.get(path), 200, stored())
    kept = {name: text for name, text in stored().items() if name != "memberId"}
    changed = {**kept, "phone": "+1-555-0000000001"}
    response = client.put(path, changed)
    yield _differs("PUT", response, 200)
    if not changed.items() <= (response.json or {}).items():  # Eve adds fields of its own
        yield f"PUT: {response.content[:200]!r}"
    for _ in range(2):
        yield _differs("GET after PUT", client.get(path), 200, {"memberId": _CHECKED, **changed})
    if stored()["phone"] != changed["phone"]:
        yield "PUT: MongoDB does not have the new telephone number"
    client.put(path, kept)
    page = client.get("/members?limit=50")
    first = [to_member(found) for found in members.find().sort("_id").limit(50)]
    if page.status != 200 or page.json["items"] != first:
        yield f"list: {page.status} {page.content[:200]!r}"
    if running.contestant.serves(BY_NAME["batch"]):
        expected = [to_member(members.find_one({"_id": member_id}) or {}) for member_id in (7, 3)]
        for _ in range(2):
            batch = client.get(batch_path([7, 99999999, 3, 7]))
            body = {"items": expected, "missing": [99999999], "next": None}
            yield _differs("batch", batch, 200, body)
            lookup = client.post(LOOKUP_PATH, {"memberIds": [7, 99999999, 3, 7]})
            yield _differs("lookup", lookup, 200, body)
    etag = client.get(path).headers.get("etag", "none")
    yield _differs("304", client.get(path, If_None_Match=etag), 304)
    yield _differs("missing member", client.get("/members/99999999"), 404)
    yield from _differences_of_refusals(running, bed, path, kept)
    client.close()


def _differences_of_refusals(
    running: Running, bed: Bed, path: str, kept: dict[str, Any]
) -> Iterator[str]:
    head, _, signature = bed.token().rpartition(".")
    broken = f"{head}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"
    tokens = {
        "no token": (None, 401),
        "a broken signature": (broken, 401),
        "an expired token": (bed.token(exp=1), 401),
        "another audience": (bed.token(aud="others"), 401),
        "another issuer": (bed.token(iss="https://other.example"), 401),
        "no permission": (bed.token("something:else"), 403),
    }
    for name, (token, expected) in tokens.items():
        # Eve refuses each of them with 401, and some versions of FastAPI a missing token with 403.
        refused = {expected, 401} | ({403} if token is None else set())
        status = BlockingClient(running.port, token).get(path).status
        if status not in refused:
            yield f"{name}: {status}"
    status = BlockingClient(running.port, bed.token("members:read")).put(path, kept).status
    if status not in (401, 403):
        yield f"PUT with a token for reading: {status}"


def _differs(what: str, response: Response, status: int, body: Any = None) -> str:
    """Return the difference of a response from the expected one; "" if there is none."""
    if response.status != status:
        return f"{what}: {response.status} instead of {status}: {response.content[:200]!r}"
    if body is not None and response.json != body:
        return f"{what}: {response.content[:200]!r} instead of {body}"
    return ""
