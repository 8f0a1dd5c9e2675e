/** Compares versions of a member, field by field. */

import { assemble, equal, valueOf } from "./schema.js";

/** @typedef {import("./schema.js").Field} Field */
/**
 * @typedef {object} Difference
 * @property {Field} field
 * @property {unknown} before the value that both began with
 * @property {unknown} theirs
 * @property {unknown} mine
 * @property {"theirs" | "mine"} choice what is proposed
 * @property {boolean} contested both changed it, in different ways
 */

/**
 * Return the fields that either side changed.
 *
 * A field that only one side changed is proposed as that side has it; of a contested one, theirs is
 * proposed, since it is what the service has.
 * @param {Field[]} fields
 * @param {any} before
 * @param {any} theirs
 * @param {any} mine
 * @returns {Difference[]}
 */
export function compare(fields, before, theirs, mine) {
  const found = [];
  for (const field of fields) {
    const values = [before, theirs, mine].map((version) => valueOf(version, field));
    const [old, other, own] = values;
    if (equal(other, own) && equal(old, own)) continue;
    const contested = !equal(other, own) && !equal(old, other) && !equal(old, own);
    const choice = /** @type {"theirs" | "mine"} */ (equal(old, other) ? "mine" : "theirs");
    found.push({ field, before: old, theirs: other, mine: own, choice, contested });
  }
  return found;
}

/**
 * Return the merge patch (RFC 7396) that leads from one version to another.
 * @param {Field[]} fields
 * @param {any} before
 * @param {any} after
 */
export function patchOf(fields, before, after) {
  const changed = fields.filter((field) => !equal(valueOf(before, field), valueOf(after, field)));
  return assemble(changed.map((field) => [field, valueOf(after, field)]));
}

/** Return the merge patch of the differences of which the own value was chosen. @param {Difference[]} differences */
export function patchOfChoices(differences) {
  const own = differences.filter((one) => one.choice === "mine" && !equal(one.mine, one.theirs));
  return assemble(own.map((one) => [one.field, one.mine]));
}
