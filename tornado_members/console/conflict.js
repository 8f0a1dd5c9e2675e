/** The dialog that resolves a conflict between two versions of a member, field by field. */

import { showDialog } from "./dialog.js";
import { h, uniqueId } from "./dom.js";
import { valueText } from "./fields.js";
import { compare, patchOfChoices } from "./merge.js";
import { equal } from "./schema.js";
import { text } from "./text.js";

/** @typedef {import("./merge.js").Difference} Difference */

/**
 * Show the differences. Returns a merge patch with the chosen own values, or null to edit further.
 * @param {import("./schema.js").Field[]} fields
 * @param {any} before
 * @param {any} theirs
 * @param {any} mine
 * @returns {Promise<any>}
 */
export function showConflict(fields, before, theirs, mine) {
  const differences = compare(fields, before, theirs, mine);
  return showDialog(text.conflict.title, (/** @type {(result: any) => void} */ close) => [
    h(
      "form",
      {
        class: "conflict",
        onsubmit: (/** @type {Event} */ event) => {
          event.preventDefault();
          close(patchOfChoices(differences));
        },
      },
      h("p", {}, text.conflict.lead),
      differences.map(showDifference),
      h(
        "div",
        { class: "actions" },
        h("button", { class: "primary" }, text.conflict.save),
        h("button", { type: "button", onclick: () => close(null) }, text.form.discardNo),
      ),
    ),
  ]);
}

/** @param {Difference} difference */
function showDifference(difference) {
  const { field, before, theirs, mine } = difference;
  const name = uniqueId("choice");
  const was = h("p", { class: "help" }, `${text.conflict.before}: `, h("bdi", {}, shown(field, before)));
  const options = equal(theirs, mine)
    ? h("p", {}, h("bdi", {}, shown(field, theirs)), ` (${text.conflict.same})`)
    : [option(difference, "theirs", theirs, name), option(difference, "mine", mine, name)];
  return h(
    "fieldset",
    { class: difference.contested ? "contested" : "" },
    h("legend", {}, field.label),
    was,
    options,
  );
}

/** @param {Difference} difference @param {"theirs" | "mine"} side @param {unknown} value @param {string} name */
function option(difference, side, value, name) {
  const radio = h("input", {
    type: "radio",
    name,
    value: side,
    checked: difference.choice === side,
    onchange: () => {
      difference.choice = side;
    },
  });
  return h(
    "label",
    { class: "choice" },
    radio,
    h("span", { class: "side" }, text.conflict[side]),
    h("bdi", {}, shown(difference.field, value)),
  );
}

/** @param {import("./schema.js").Field} field @param {unknown} value */
function shown(field, value) {
  return valueText(field, value) || text.none;
}
