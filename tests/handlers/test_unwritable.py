"""A MongoDB that responds but refuses operations: the response is a 503, and never a 500."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import pytest
from pymongo.errors import BulkWriteError
from tornado.httpclient import HTTPResponse
from tornado.simple_httpclient import HTTPStreamClosedError

from tests.support.api import Api, parsed, problem
from tests.support.mongodb import Admin, failing, locked, read_only
from tornado_members.settings import Settings
from tornado_members.storage.outages import _TRANSIENT_CODES, is_outage

BODY = {"name": "Ada", "phone": "555-0100"}
# After these errors, the drivers retry until the deadline; test_outages.py covers that.
RETRIED = {6, 7, 89, 91, 134, 189, 262, 9001, 10058, 10107, 11600, 11602, 13435, 13436}
TIMEOUTS = {50, 262, 24, 11601}  # MaxTimeMSExpired, ExceededTimeLimit, LockTimeout, Interrupted
CSV = {"Content-Type": "text/csv"}
PATCH = {"Content-Type": "application/merge-patch+json"}


@pytest.fixture
def audit() -> bool:
    return False


@pytest.fixture
def settings(settings: Settings, audit: bool) -> Settings:
    changed = {
        "mongodb": {**settings.mongodb.model_dump(), "timeout_ms": 600},
        "members": {"transfer_retry_seconds": 0},
        "audit": {"enabled": audit},
    }
    return Settings.model_validate({**settings.model_dump(), **changed})


async def writes(api: Api) -> Sequence[HTTPResponse]:
    """Send each kind of write to an existing member."""
    return await asyncio.gather(
        api("PUT", "/members", {"name": "Grace"}),
        api("PUT", "/members/1", BODY),
        api("PUT", "/members/by-name/Ada", {"phone": "555-0101"}),
        api("PATCH", "/members/1", {"phone": "555-0102"}, headers=PATCH),
        api("DELETE", "/members/1"),
    )


def check(answer: HTTPResponse, *codes: str) -> None:
    assert answer.code == 503, answer.body
    problem(answer, 503, parsed(answer)["code"])
    assert parsed(answer)["code"] in ("dependency-unavailable", *codes)
    assert answer.headers["Retry-After"] == "1"


# A lock is waited for until the deadline, where the drivers differ.
@pytest.mark.parametrize(
    ("unwritable", "audit", "driver"),
    [
        (read_only, False, "motor"),
        (read_only, True, "pymongo"),
        (locked, False, "pymongo"),
        (locked, True, "motor"),
    ],
    ids=["read-only", "read-only, recorded", "locked", "locked, recorded"],
)
@pytest.mark.usefixtures("collected")
async def test_writes_are_a_503_while_reads_continue(
    api: Api,
    admin: Admin,
    unwritable: Callable[[Admin], AbstractContextManager[None]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    await api.create("Ada")
    with unwritable(admin):
        for answer in await writes(api):
            check(answer, "write-conflict")  # with another write, which waits
        for path in ("/members/1", "/members/by-name/Ada", "/members"):
            assert (await api("GET", path)).code == 200
        with pytest.raises(
            HTTPStreamClosedError
        ):  # its last line gives the reason, then the connection breaks off
            await api("POST", "/members/import", raw=b"name\nBob\n", headers=CSV)
    assert "response aborted: The database " in caplog.text
    async with asyncio.timeout(60):  # the writes behind the lock have ended or were given up
        while (await api("PUT", "/members/by-name/Grace", {})).code == 503:
            await asyncio.sleep(0.05)
        while any(answer.code == 503 for answer in await writes(api)):
            await asyncio.sleep(0.05)


async def test_transient_error_is_a_503(api: Api, admin: Admin) -> None:
    """Each code with which a server reports it, for a read and for a write."""
    await api.create("Ada")
    headers = {"Cache-Control": "no-cache"}
    assert {*TIMEOUTS} <= _TRANSIENT_CODES
    for code in sorted(_TRANSIENT_CODES - RETRIED):
        with failing(admin, None, failCommands=["find", "findAndModify"], errorCode=code):
            check(await api("GET", "/members/1", headers=headers))
            check(await api("PUT", "/members/1", BODY))
    assert (await api("PUT", "/members/1", BODY)).code == 200


async def test_permanent_error_is_a_500(api: Api, admin: Admin) -> None:
    """The error is in the log, and the response has no details of it."""
    await api.create("Ada")
    with failing(admin, None, failCommands=["find"], errorCode=2):
        problem(await api("GET", "/members/1"), 500, "internal-error")


def test_batch_with_a_transiently_failed_document_is_an_outage() -> None:
    """For example when the disk fills in the middle of the batch."""
    duplicate, full = {"index": 0, "code": 11000}, {"index": 1, "code": 14031}
    assert is_outage(BulkWriteError({"writeErrors": [duplicate, full]}))
    assert not is_outage(BulkWriteError({"writeErrors": [duplicate]}))
