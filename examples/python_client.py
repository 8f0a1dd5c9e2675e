"""A client of the members service: retries, ETags, batches and the change feed.

It needs httpx. To see it work, run it with MEMBERS_URL and MEMBERS_TOKEN in the environment.
"""

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import httpx

Member = dict[str, Any]
ATTEMPTS = 5
AT_ONCE = 1000  # ids of one look-up


class Members:
    """Reads and changes members; each method raises httpx.HTTPError if it cannot."""

    def __init__(self, url: str, token: str) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=30)
        self._known: dict[int, tuple[str, Member]] = {}  # the ETag and the member, by id

    def get(self, member_id: int) -> Member:
        """Return a member. The service sends it again only if it has changed."""
        known = self._known.get(member_id)
        headers = {"If-None-Match": known[0]} if known else {}
        response = self._send("GET", f"/members/{member_id}", headers=headers)
        if response.status_code != 304 or known is None:
            known = self._known[member_id] = response.headers["ETag"], response.json()
        return known[1]

    def get_many(self, ids: Iterable[int]) -> dict[int, Member]:
        """Return the members that exist, by id, with one request per thousand ids."""
        wanted, found = list(dict.fromkeys(ids)), {}
        for start in range(0, len(wanted), AT_ONCE):
            body = {"memberIds": wanted[start : start + AT_ONCE]}
            for member in self._send("POST", "/members/lookup", json=body).json()["items"]:
                found[member["memberId"]] = member
        return found

    def change(self, member_id: int, edit: Callable[[Member], Member]) -> Member:
        """Change fields of a member. `edit` returns them, and is called again after a conflict."""
        for _ in range(ATTEMPTS):
            patch = json.dumps(edit(self.get(member_id)))
            headers = {
                "If-Match": self._known[member_id][0],
                "Content-Type": "application/merge-patch+json",
            }
            path = f"/members/{member_id}"
            response = self._send("PATCH", path, content=patch, headers=headers)
            if response.status_code != 412:  # no other client has changed it meanwhile
                self._known[member_id] = response.headers["ETag"], response.json()
                return self._known[member_id][1]
        raise httpx.HTTPError(f"member {member_id} is changed too often")

    def changes(self, cursor: str | None = None) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Yield the cursor, kind and data of each change, after `cursor`; reconnect when needed."""
        while True:
            headers = {"Accept": "application/x-ndjson"} | (
                {"Last-Event-ID": cursor} if cursor else {}
            )
            try:
                with self._http.stream("GET", "/members/changes", headers=headers) as stream:
                    stream.raise_for_status()  # 410: read everything again: the cursor is too old
                    for line in filter(None, stream.iter_lines()):
                        event = json.loads(line)
                        cursor = event["id"] or cursor
                        yield cursor or "", event["event"], event["data"]
            except httpx.TransportError:
                time.sleep(1)

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request; repeat it after a 503 or a broken connection, which is safe for these."""
        for attempt in range(ATTEMPTS):
            try:
                response = self._http.request(method, path, **options)
            except httpx.TransportError:
                if attempt == ATTEMPTS - 1:
                    raise
                time.sleep(2**attempt / 10)
                continue
            if response.status_code != 503 or attempt == ATTEMPTS - 1:
                break
            time.sleep(float(response.headers.get("Retry-After", 1)))
        if response.status_code not in (304, 412):
            response.raise_for_status()
        return response


def main() -> None:
    url = os.environ.get("MEMBERS_URL", "http://127.0.0.1:8888")
    token = os.environ["MEMBERS_TOKEN"]
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}) as http:
        path = http.post("/members", json={"name": f"Ada {time.time_ns()}"}).headers["Location"]
    member_id = int(path.rpartition("/")[2])
    members = Members(url, token)
    changes = members.changes()
    print(next(changes)[1])  # ready: changes from now on follow
    members.change(member_id, lambda _: {"phone": "555-0100"})
    assert members.get_many([member_id, 10**15])[member_id]["phone"] == "555-0100"
    print(next(change for change in changes if change[2].get("memberId") == member_id)[1])


if __name__ == "__main__":
    main()
