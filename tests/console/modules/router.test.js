import assert from "node:assert/strict";
import { test } from "node:test";

import { figuresBetween, linePath, quantile } from "../../../tornado_members/console/figures.js";
import { formatRoute, parseRoute } from "../../../tornado_members/console/router.js";
import { expiryOf, Session } from "../../../tornado_members/console/session.js";
import { formatAge, labelOf } from "../../../tornado_members/console/text.js";

test("routes survive formatting and parsing", () => {
  for (const [view, id, query] of [
    ["members", "", ""],
    ["members", "42", "q=%C3%A4+b%26c&sort=-name"],
    ["users", "", ""],
    ["members", "a/b?c", "q=x"],
  ]) {
    const route = parseRoute(formatRoute(view, id, new URLSearchParams(query)));
    assert.deepEqual([route.view, route.id, route.query.toString()], [view, id, query]);
  }
  assert.equal(parseRoute("").view, "members");
  assert.equal(parseRoute("#/members/%E0%A4%A").id, "%E0%A4%A");
});

test("the expiry of a token is read, and unreadable tokens have none", () => {
  const payload = Buffer.from(JSON.stringify({ exp: 1234, sub: "zoë" })).toString("base64url");
  assert.equal(expiryOf(`x.${payload}.y`), 1_234_000);
  for (const token of ["", "x", "a.b.c", "x.e30.y"]) assert.equal(expiryOf(token), 0);
});

test("a caller of its own member may change that one only", () => {
  const session = new Session({ token: "" }, null);
  session.permissions = new Set(["members:read:own", "members:write:own"]);
  session.memberId = 42;
  assert.deepEqual(
    [session.isOwnOnly, session.may("read"), session.mayAccess("write", 42), session.mayAccess("write", 43)],
    [true, false, true, false],
  );
});

test("figures are differences of counters, and none after a restart", () => {
  const before = {
    requests: { bounds: [0.01, 0.1], durations: [10, 0, 0] },
    cache: { hit: 5, miss: 5, bypass: 0 },
  };
  const after = {
    requests: { bounds: [0.01, 0.1], durations: [29, 1, 0] },
    cache: { hit: 14, miss: 6, bypass: 0 },
  };
  assert.deepEqual(figuresBetween(before, after, 2), { rate: 10, hits: 0.9, latency: 0.1 });
  assert.equal(figuresBetween(after, before, 2), null);
  assert.deepEqual(figuresBetween(after, after, 2), { rate: 0, hits: null, latency: null });
  assert.equal(quantile([1, 2], [0, 0, 5], 0.99), 2);
  assert.equal(linePath([1, null, 2], 3, 2), "M0.00 20.00M100.00 2.00");
});

test("text is made readable", () => {
  const now = Date.parse("2026-01-02T00:00:00Z");
  assert.equal(formatAge("2026-01-01T22:00:00Z", now), "2 hours ago");
  assert.equal(labelOf("attributes.joinedAt_year"), "Joined At year");
  assert.equal(labelOf("constructor"), "Constructor");
});
