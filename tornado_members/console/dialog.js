/** Dialogs, as native `<dialog>` elements: these trap the focus and close with Esc. */

import { fill, h, icon, uniqueId } from "./dom.js";
import { text } from "./text.js";

/**
 * Show a dialog until it is closed.
 *
 * `content` returns the content. It receives a function that closes the dialog with a result. The
 * result is null if the dialog is closed in another way.
 * @template T
 * @param {string} title
 * @param {(close: (result: T) => void) => import("./dom.js").Child[]} content
 * @param {{closable?: boolean}} [options]
 * @returns {Promise<T | null>}
 */
export function showDialog(title, content, { closable = true } = {}) {
  const heading = h("h2", { id: uniqueId("dialog") }, title);
  const before = document.activeElement;
  /** @type {T | null} */
  let result = null;
  const dialog = h("dialog", { "aria-labelledby": heading.id });
  const close = (/** @type {T} */ value) => {
    result = value;
    dialog.close();
  };
  fill(
    dialog,
    h(
      "header",
      {},
      heading,
      closable &&
        h(
          "button",
          { type: "button", class: "plain", "aria-label": text.close, onclick: () => dialog.close() },
          icon("close"),
        ),
    ),
    content(close),
  );
  document.body.append(dialog);
  return new Promise((resolve) => {
    if (!closable) dialog.addEventListener("cancel", (event) => event.preventDefault());
    dialog.addEventListener("close", () => {
      dialog.remove();
      if (before instanceof HTMLElement && before.isConnected) before.focus();
      resolve(result);
    });
    dialog.showModal();
    const first = dialog.querySelector("[autofocus], input:not([type=hidden]), select, textarea");
    if (first instanceof HTMLElement) first.focus();
  });
}

/** Show a question. Returns true for yes. @param {string} title @param {string} lead @param {string} yes @param {string} no */
export async function confirm(title, lead, yes, no) {
  const answer = await showDialog(title, (/** @type {(result: boolean) => void} */ close) => [
    h("p", {}, lead),
    h(
      "div",
      { class: "actions" },
      h("button", { type: "button", class: "danger", onclick: () => close(true) }, yes),
      h("button", { type: "button", autofocus: true, onclick: () => close(false) }, no),
    ),
  ]);
  return answer === true;
}
