import assert from "node:assert/strict";
import { test } from "node:test";

import { Problem } from "../../../tornado_members/console/api.js";
import { EventParser, Feed } from "../../../tornado_members/console/feed.js";

const STREAM =
  'id: 1\nevent: ready\ndata: {}\n\n: comment\n\nid: 2\r\nevent: changed\r\ndata: {"memberId": 7,\r\ndata: "version": 2}\r\n\r\nretry: 10\n\ndata:x\n\n';

test("EventParser finds the same events however the stream is cut", () => {
  const expected = [
    { id: "1", event: "ready", data: {} },
    { id: "2", event: "changed", data: { memberId: 7, version: 2 } },
    { id: "2", event: "message", data: "x" },
  ];
  for (let size = 1; size <= STREAM.length; size += 1) {
    const parser = new EventParser();
    const found = [];
    for (let i = 0; i < STREAM.length; i += size) found.push(...parser.push(STREAM.slice(i, i + size)));
    assert.deepEqual(found, expected, `in pieces of ${size}`);
  }
});

/** An API whose answers are made one after the other. */
class FakeApi {
  constructor(answers) {
    this.answers = answers;
    this.headers = [];
  }

  async request(_method, _path, { headers }) {
    this.headers.push(headers);
    const answer = this.answers.shift();
    if (answer instanceof Error) throw answer;
    return answer ? new Response(answer) : new Promise(() => {});
  }
}

test("Feed resumes behind the last event, and reports a gap if that place is lost", async () => {
  const gone = new Problem(410, { code: "changes-lost" }, new Headers());
  const api = new FakeApi(['id: a\nevent: created\ndata: {"memberId": 1}\n\n', gone]);
  const feed = new Feed(api);
  const seen = [];
  for (const name of ["change", "live", "lost", "gap"])
    feed.addEventListener(name, (event) => seen.push(event.detail?.event ?? name));
  feed.start();
  while (api.headers.length < 3) await new Promise((resolve) => setTimeout(resolve, 20));
  feed.stop();
  assert.deepEqual(seen, ["live", "created", "lost", "gap"]);
  assert.deepEqual(
    api.headers.map((one) => one["Last-Event-ID"]),
    [undefined, "a", undefined],
  );
});
