"""The writers of one member in a process take turns, and none waits for long."""

import asyncio
from typing import Any

import pytest

from tests.support.api import Api, parsed
from tornado_members.directory.writer_turns import WriterTurns
from tornado_members.services import Services


async def test_turns_of_one_member_do_not_overlap() -> None:
    turns, writing, most = WriterTurns(patience=10), 0, 0

    async def write(member_id: int) -> None:
        nonlocal writing, most
        async with turns.turn(member_id):
            writing += 1
            most = max(most, writing)
            await asyncio.sleep(0)
            writing -= 1

    await asyncio.gather(*(write(1) for _ in range(20)))
    assert most == 1
    await asyncio.gather(write(1), write(2))
    assert most == 2
    assert not turns._turns


async def test_writer_goes_on_without_a_turn() -> None:
    turns = WriterTurns(patience=0.01)
    async with turns.turn(1):
        async with asyncio.timeout(60), turns.turn(1):
            pass
        assert turns._turns[1].lock.locked()  # the first writer still has its turn


async def test_turn_ends_with_an_exception_and_with_a_cancelled_wait() -> None:
    turns = WriterTurns(patience=10)
    with pytest.raises(ValueError, match="a fault"):
        async with turns.turn(1):
            raise ValueError("a fault")
    async with turns.turn(1):
        waiting = asyncio.create_task(turns.turn(1).__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
    async with asyncio.timeout(60), turns.turn(1):
        pass


async def test_patches_at_once_read_the_member_once(
    api: Api, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = await api.create("Ada Lovelace")
    path, read = f"/members/{ada['memberId']}", 0
    monkeypatch.setattr(services.directory._turns, "_patience", 60)  # also on a busy machine
    find_member = services.directory._store.find_member

    async def counted(member_id: int) -> object:
        nonlocal read
        read += 1
        return await find_member(member_id)

    monkeypatch.setattr(services.directory._store, "find_member", counted)
    merge_patch = {"Content-Type": "application/merge-patch+json"}
    answers = await asyncio.gather(
        *(api("PATCH", path, {"phone": f"+1-555-01{i:02}"}, headers=merge_patch) for i in range(50))
    )
    assert {answer.code for answer in answers} == {200}
    assert {answer.headers["Etag"] for answer in answers} == {f'"{i}"' for i in range(2, 52)}
    assert read == 1
    assert parsed(await api("GET", path))["phone"].startswith("+1-555-01")


@pytest.mark.parametrize("if_match", [None, '"3"'])
async def test_patch_after_another_applies_to_the_member_as_other_processes_left_it(
    api: Api, services: Services, monkeypatch: pytest.MonkeyPatch, if_match: str | None
) -> None:
    member_id = (await api.create("Ada Lovelace"))["memberId"]
    path = f"/members/{member_id}"
    store = services.directory._store
    replace, members = store.replace, services.dependencies.mongo.database["members"]

    async def replace_before_another_process(*args: Any, **kwargs: Any) -> object:
        monkeypatch.setattr(store, "replace", replace)
        second.append(asyncio.create_task(patch({"name": "Ada King"}, condition)))
        while not turns._turns[member_id].lock._waiters:
            await asyncio.sleep(0.01)
        replaced = await replace(*args, **kwargs)
        change = {"$set": {"email": "ada@example.org"}, "$inc": {"version": 1}}
        await members.update_one({"_id": member_id}, change)
        return replaced

    async def patch(change: dict[str, str], headers: dict[str, str]) -> Any:
        merge_patch = {"Content-Type": "application/merge-patch+json"}
        return await api("PATCH", path, change, headers={**merge_patch, **headers})

    turns, condition = services.directory._turns, {"If-Match": if_match} if if_match else {}
    second: list[asyncio.Task[Any]] = []
    monkeypatch.setattr(turns, "_patience", 60)
    monkeypatch.setattr(store, "replace", replace_before_another_process)
    assert (await patch({"phone": "+1-555-0101"}, {})).code == 200
    answer = await second[0]
    assert (answer.code, answer.headers["Etag"]) == (200, '"4"')
    member = parsed(await api("GET", path, headers={"Cache-Control": "no-cache"}))
    assert (member["name"], member["email"]) == ("Ada King", "ada@example.org")
    assert member["phone"] == "+1-555-0101"
