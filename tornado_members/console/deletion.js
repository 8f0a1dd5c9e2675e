/** The dialog that deletes a member after its name has been typed. */

import { Problem } from "./api.js";
import { showDialog } from "./dialog.js";
import { h, isolated, uniqueId } from "./dom.js";
import { explain } from "./faults.js";
import { text } from "./text.js";

/**
 * Return true if the member was deleted, "changed" if it has changed since it was read, else null.
 * @param {string} name
 * @param {() => Promise<unknown>} remove
 * @returns {Promise<true | "changed" | null>}
 */
export function confirmDeletion(name, remove) {
  const id = uniqueId("confirm");
  const input = h("input", {
    id,
    autocomplete: "off",
    spellcheck: "false",
    dir: "auto",
    "aria-describedby": `${id}-fault`,
  });
  const button = h("button", { class: "danger", disabled: true }, text.deletion.submit);
  const fault = h("p", { class: "fault", role: "alert", id: `${id}-fault`, hidden: true });
  input.addEventListener("input", () => {
    button.disabled = !isSame(input.value, name);
  });
  return showDialog(text.deletion.title(name), (/** @type {(result: true | "changed") => void} */ close) => {
    const submit = async (/** @type {Event} */ event) => {
      event.preventDefault();
      if (!isSame(input.value, name)) return;
      button.disabled = true;
      button.textContent = text.deletion.busy;
      try {
        await remove();
        close(true);
      } catch (error) {
        if (error instanceof Problem && error.status === 412) close("changed");
        else if (error instanceof Problem && error.status === 404) close(true); // a repeated attempt
        fault.textContent = explain(error);
        fault.hidden = false;
        button.disabled = false;
        button.textContent = text.deletion.submit;
      }
    };
    return [
      h(
        "form",
        { novalidate: true, onsubmit: submit },
        h("p", {}, text.deletion.lead),
        h(
          "div",
          { class: "field" },
          h("label", { for: id }, `${text.deletion.type}: `, h("strong", {}, isolated(name))),
          input,
          fault,
        ),
        h(
          "div",
          { class: "actions" },
          button,
          h(
            "button",
            {
              type: "button",
              onclick: (/** @type {Event} */ event) =>
                /** @type {HTMLElement} */ (event.target).closest("dialog")?.close(),
            },
            text.cancel,
          ),
        ),
      ),
    ];
  });
}

/** @param {string} typed @param {string} name */
function isSame(typed, name) {
  const plain = (/** @type {string} */ one) => one.normalize("NFC").trim().replace(/\s+/g, " ");
  return plain(typed) === plain(name);
}
