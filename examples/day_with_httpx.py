"""Typical requests with httpx: create, read, change, list, import, export and delete members."""

import os

import httpx

client = httpx.Client(
    base_url=os.environ.get("MEMBERS_URL", "http://127.0.0.1:8888"),
    headers={"Authorization": f"Bearer {os.environ['MEMBERS_TOKEN']}"},
    timeout=30,
)


def send(method: str, path: str, *expected: int, **options: object) -> httpx.Response:
    response = client.request(method, path, **options)  # type: ignore[arg-type]
    if response.status_code not in expected:
        raise SystemExit(f"{method} {path}: {response.status_code} {response.text}")
    return response


created = send("POST", "/members", 201, json={"name": "Ada httpx", "phone": "555-0100"})
path, etag = created.headers["Location"], created.headers["ETag"]
send("GET", path, 304, headers={"If-None-Match": etag})

merge = {"If-Match": etag, "Content-Type": "application/merge-patch+json"}
send("PATCH", path, 200, headers=merge, content='{"phone": "555-0199"}')
send("PATCH", path, 412, headers=merge, content='{"phone": null}')  # another version by now

page = send("GET", "/members", 200, params={"limit": 10, "q": "httpx"}).json()
assert [member["name"] for member in page["items"]] == ["Ada httpx"]

rows = "name,email\nBob httpx,bob@example.org\nCyd httpx,cyd@example.org\n"
results = send("POST", "/members/import", 200, content=rows, headers={"Content-Type": "text/csv"})
assert results.text.endswith('{"summary": {"created": 2}}\n')
with client.stream("GET", "/members?q=httpx", headers={"Accept": "text/csv"}) as export:
    lines = list(export.iter_lines())
for line in lines[1:]:
    send("DELETE", f"/members/{line.split(',')[0]}", 204)
print(f"httpx: {len(lines) - 1} members made, read, changed and deleted")
