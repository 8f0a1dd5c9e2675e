"""Typical requests with aiohttp: create, read, change, list, import, export and delete members."""

import asyncio
import os

import aiohttp


async def main() -> None:
    base = os.environ.get("MEMBERS_URL", "http://127.0.0.1:8888")
    token = {"Authorization": f"Bearer {os.environ['MEMBERS_TOKEN']}"}
    async with aiohttp.ClientSession(base, headers=token) as session:
        ada = {"name": "Ada aiohttp", "phone": "555-0100"}
        async with session.post("/members", json=ada, raise_for_status=True) as created:
            path, etag = created.headers["Location"], created.headers["ETag"]
        async with session.get(path, headers={"If-None-Match": etag}) as known:
            assert known.status == 304

        merge = {"If-Match": etag, "Content-Type": "application/merge-patch+json"}
        for expected in (200, 412):  # another version by now
            async with session.patch(path, data='{"phone": null}', headers=merge) as changed:
                assert changed.status == expected

        async with session.get("/members", params={"limit": "10", "q": "aiohttp"}) as page:
            names = [member["name"] for member in (await page.json())["items"]]
            assert names == ["Ada aiohttp"]

        rows = "name,email\nBob aiohttp,bob@example.org\nCyd aiohttp,cyd@example.org\n"
        csv = {"Content-Type": "text/csv"}
        async with session.post("/members/import", data=rows, headers=csv) as results:
            assert (await results.text()).endswith('{"summary": {"created": 2}}\n')
        export = {"Accept": "text/csv"}
        async with session.get("/members", params={"q": "aiohttp"}, headers=export) as stream:
            lines = [line.decode() async for line in stream.content]
        for line in lines[1:]:
            async with session.delete(f"/members/{line.split(',')[0]}") as deleted:
                assert deleted.status == 204
    print(f"aiohttp: {len(lines) - 1} members made, read, changed and deleted")


asyncio.run(main())
