import assert from "node:assert/strict";
import { test } from "node:test";

import { assemble, pointerOf, readSchema, valueOf } from "../../../tornado_members/console/schema.js";
import { DOCUMENT } from "./document.js";

const schema = readSchema(DOCUMENT);

test("readSchema finds the fields with their types, through references and alternatives", () => {
  const found = schema.fields.map((field) => [field.key, field.type, field.list, field.required]);
  assert.deepEqual(found, [
    ["name", "string", false, true],
    ["email", "email", false, false],
    ["phone", "phone", false, false],
    ["attributes.level", "string", false, true],
    ["attributes.tags", "string", true, false],
    ["attributes.birthday", "date", false, false],
    ["attributes.seenAt", "date-time", false, false],
    ["attributes.score", "integer", false, false],
    ["attributes.vip", "boolean", false, false],
  ]);
  assert.deepEqual(schema.fields[3].choices, ["gold", "silver"]);
  assert.equal(schema.fields[6].label, "Seen At");
  assert.deepEqual([schema.fields[7].minimum, schema.fields[7].maximum], [0, 10]);
  assert.equal(schema.fields[8].default, false);
});

test("readSchema finds what the service offers", () => {
  const { search, feed, login, history, users, status, rejects } = schema;
  assert.deepEqual(
    { search, feed, login, history, users, status, rejects },
    { search: true, feed: true, login: true, history: false, users: false, status: false, rejects: true },
  );
  assert.deepEqual(schema.filters, ["name_prefix", "email", "attributes.level"]);
  const empty = readSchema({});
  assert.deepEqual([empty.fields, empty.filters, empty.search], [[], [], false]);
});

test("values are found and assembled by their paths", () => {
  const [, , , level, tags] = schema.fields;
  assert.deepEqual(
    assemble([
      [level, "gold"],
      [tags, null],
    ]),
    { attributes: { level: "gold", tags: null } },
  );
  assert.equal(valueOf({ attributes: null }, level), null);
  assert.equal(valueOf({ attributes: { level: "gold" } }, level), "gold");
  assert.equal(valueOf({}, { ...level, path: ["constructor", "name"] }), null);
  assert.equal(pointerOf(["attributes", "a/b~c"]), "/attributes/a~1b~0c");
});
