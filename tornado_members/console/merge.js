/** Compares versions of a member, field by field. */

import { assemble, equal, valueOf } from "./schema.js";

/** @typedef {import("./schema.js").Field} Field */
/**
 * @typedef {object} Difference
 * @property {Field} field
 * @property {unknown} before the common ancestor's value
 * @property {unknown} theirs
 * @property {unknown} mine
 * @property {"theirs" | "mine"} choice the proposed side, then the chosen one
 * @property {boolean} contested both sides changed it, in different ways
 */

/**
 * Return the fields that either side changed.
 *
 * For a field that only one side changed, the proposal is that side. For a contested field, it is
 * "theirs", which the service has stored.
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
 * Return the merge patch (RFC 7396) that turns one version into another.
 * @param {Field[]} fields
 * @param {any} before
 * @param {any} after
 */
export function patchOf(fields, before, after) {
  const changed = fields.filter((field) => !equal(valueOf(before, field), valueOf(after, field)));
  return assemble(changed.map((field) => [field, valueOf(after, field)]));
}

/** Return the merge patch of the differences for which the own value was chosen. @param {Difference[]} differences */
export function patchOfChoices(differences) {
  const own = differences.filter((one) => one.choice === "mine" && !equal(one.mine, one.theirs));
  return assemble(own.map((one) => [one.field, one.mine]));
}
