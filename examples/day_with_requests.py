"""Typical requests with requests: create, read, change, list, import, export and delete members."""

import os

import requests

session = requests.Session()
session.headers["Authorization"] = f"Bearer {os.environ['MEMBERS_TOKEN']}"
base = os.environ.get("MEMBERS_URL", "http://127.0.0.1:8888")


def send(method: str, path: str, *expected: int, **options: object) -> requests.Response:
    response = session.request(method, base + path, timeout=30, **options)  # type: ignore[arg-type]
    if response.status_code not in expected:
        raise SystemExit(f"{method} {path}: {response.status_code} {response.text}")
    return response


created = send("POST", "/members", 201, json={"name": "Ada requests", "phone": "555-0100"})
path, etag = created.headers["Location"], created.headers["ETag"]
send("GET", path, 304, headers={"If-None-Match": etag})

merge = {"If-Match": etag, "Content-Type": "application/merge-patch+json"}
send("PATCH", path, 200, headers=merge, data='{"phone": "555-0199"}')
send("PATCH", path, 412, headers=merge, data='{"phone": null}')  # another version by now

page = send("GET", "/members?limit=10&q=requests", 200).json()
assert [member["name"] for member in page["items"]] == ["Ada requests"]

rows = "name,email\nBob requests,bob@example.org\nCyd requests,cyd@example.org\n"
results = send("POST", "/members/import", 200, data=rows, headers={"Content-Type": "text/csv"})
assert results.text.endswith('{"summary": {"created": 2}}\n')
with send("GET", "/members?q=requests", 200, headers={"Accept": "text/csv"}, stream=True) as export:
    lines = list(export.iter_lines(decode_unicode=True))
for line in lines[1:]:
    send("DELETE", f"/members/{line.split(',')[0]}", 204)
print(f"requests: {len(lines) - 1} members made, read, changed and deleted")
