import assert from "node:assert/strict";
import { test } from "node:test";

import { compare, patchOf, patchOfChoices } from "../../../tornado_members/console/merge.js";
import { readSchema } from "../../../tornado_members/console/schema.js";
import { DOCUMENT } from "./document.js";

const { fields } = readSchema(DOCUMENT);
const before = {
  memberId: 1,
  name: "Ada",
  email: "a@x.org",
  phone: null,
  attributes: { level: "gold", tags: ["a"] },
};

test("compare proposes what only one side changed, and contests what both changed", () => {
  const theirs = { ...before, name: "Ada King", phone: "1", attributes: { level: "silver", tags: ["a"] } };
  const mine = { ...before, name: "Ada L.", email: null, attributes: { level: "gold", tags: ["a", "b"] } };
  const found = compare(fields, before, theirs, mine).map((one) => [
    one.field.key,
    one.choice,
    one.contested,
  ]);
  assert.deepEqual(found, [
    ["name", "theirs", true],
    ["email", "mine", false],
    ["phone", "theirs", false],
    ["attributes.level", "theirs", false],
    ["attributes.tags", "mine", false],
  ]);
});

test("patchOfChoices has the own values that were chosen, and nothing of theirs", () => {
  const theirs = { ...before, name: "Ada King" };
  const mine = { ...before, name: "Ada L.", email: null, attributes: { level: null, tags: ["a"] } };
  const differences = compare(fields, before, theirs, mine);
  assert.deepEqual(patchOfChoices(differences), { email: null, attributes: { level: null } });
  differences[0].choice = "mine";
  assert.deepEqual(patchOfChoices(differences), { name: "Ada L.", email: null, attributes: { level: null } });
});

test("patchOf has changed fields only, and null for those that were removed", () => {
  const after = { ...before, phone: "555", email: null, attributes: { level: "gold", tags: null } };
  assert.deepEqual(patchOf(fields, before, after), { phone: "555", email: null, attributes: { tags: null } });
  assert.deepEqual(patchOf(fields, before, { ...before }), {});
});
