"""The progress of the change-stream follower, as stored in MongoDB."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from pymongo.database import Database


@asynccontextmanager
async def followed(database: Database[dict[str, Any]], seconds: float = 30) -> AsyncIterator[None]:
    """After the block, wait until the stored progress includes its changes."""
    with await asyncio.to_thread(database["members"].watch) as changes:
        yield
        while await asyncio.to_thread(changes.try_next):
            pass
        token = changes.resume_token
    assert token
    async with asyncio.timeout(seconds):
        while True:
            lease = await asyncio.to_thread(
                database["leader_locks"].find_one, {"_id": "invalidator"}
            )
            if ((lease or {}).get("progress") or {}).get("_data", "") >= token["_data"]:
                return
            await asyncio.sleep(0.1)
