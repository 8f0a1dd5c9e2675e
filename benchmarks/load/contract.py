"""Checks, before the measurement, that a contestant answers as the service does."""

from collections.abc import Iterator
from typing import Any

from benchmarks.load.asking import Answer, Asker
from benchmarks.load.bed import Bed
from benchmarks.load.contestants import Running
from benchmarks.load.sampling import LOOKUP_PATH, as_answered, batch_path
from benchmarks.load.scenarios import BY_NAME

_CHECKED = 4242  # a member that no load asks for first


def faults(running: Running, bed: Bed) -> list[str]:
    """Return the differences, one line each."""
    return [line for line in _look(running, bed) if line]


def _look(running: Running, bed: Bed) -> Iterator[str]:
    path = f"/members/{_CHECKED}"
    asker = Asker(running.port, bed.token())
    members = bed.members(running.contestant.name)

    def stored() -> dict[str, Any]:
        return as_answered(members.find_one({"_id": _CHECKED}) or {})

    for _ in range(2):  # a miss, and a hit
        yield _differs("GET", asker.get(path), 200, stored())
    # Another value each time this is looked at, and what was there is put back.
    kept = {name: text for name, text in stored().items() if name != "memberId"}
    changed = {**kept, "phone": "+1-555-0000000001"}
    answer = asker.put(path, changed)
    yield _differs("PUT", answer, 200)
    if not changed.items() <= (answer.json or {}).items():  # Eve adds fields of its own
        yield f"PUT: {answer.content[:200]!r}"
    for _ in range(2):
        yield _differs("GET after PUT", asker.get(path), 200, {"memberId": _CHECKED, **changed})
    if stored()["phone"] != changed["phone"]:
        yield "PUT: MongoDB does not have it"
    asker.put(path, kept)
    page = asker.get("/members?limit=50")
    first = [as_answered(found) for found in members.find().sort("_id").limit(50)]
    if page.status != 200 or page.json["items"] != first:
        yield f"list: {page.status} {page.content[:200]!r}"
    if running.contestant.serves(BY_NAME["batch"]):
        expected = [as_answered(members.find_one({"_id": one}) or {}) for one in (7, 3)]
        for _ in range(2):
            batch = asker.get(batch_path([7, 99999999, 3, 7]))
            body = {"items": expected, "missing": [99999999], "next": None}
            yield _differs("batch", batch, 200, body)
            looked_up = asker.post(LOOKUP_PATH, {"memberIds": [7, 99999999, 3, 7]})
            yield _differs("lookup", looked_up, 200, body)
    etag = asker.get(path).headers.get("etag", "none")
    yield _differs("304", asker.get(path, If_None_Match=etag), 304)
    yield _differs("missing member", asker.get("/members/99999999"), 404)
    yield from _look_at_callers(running, bed, path, kept)
    asker.close()


def _look_at_callers(running: Running, bed: Bed, path: str, kept: dict[str, Any]) -> Iterator[str]:
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
        # Eve says 401 for each of them, and FastAPI 403 for no token in some of its versions.
        refused = {expected, 401} | ({403} if token is None else set())
        status = Asker(running.port, token).get(path).status
        if status not in refused:
            yield f"{name}: {status}"
    status = Asker(running.port, bed.token("members:read")).put(path, kept).status
    if status not in (401, 403):
        yield f"PUT with a token for reading: {status}"


def _differs(what: str, answer: Answer, status: int, body: Any = None) -> str:
    if answer.status != status:
        return f"{what}: {answer.status} in place of {status}: {answer.content[:200]!r}"
    if body is not None and answer.json != body:
        return f"{what}: {answer.content[:200]!r} in place of {body}"
    return ""
