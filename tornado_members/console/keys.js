/** Shortcuts of one key. They can be switched off (WCAG 2.1.4). */

import { showDialog } from "./dialog.js";
import { h } from "./dom.js";
import { formatPlace } from "./router.js";
import { text } from "./text.js";

const STORED = "tornado-members-keys";

/** @typedef {import("./app.js").Context} Context */

let isInstalled = false;

/** @param {import("./app.js").MembersApp} app @param {Context} context */
export function installKeys(app, context) {
  if (isInstalled) return;
  isInstalled = true;
  addEventListener("keydown", (event) => {
    if (!context.session.isSignedIn || document.querySelector("dialog[open]")) return;
    if (event.key === "Escape") leave(app, event);
    else if (!event.defaultPrevented && !event.ctrlKey && !event.metaKey && !event.altKey)
      press(app, context, event);
  });
}

/** @param {import("./app.js").MembersApp} app @param {KeyboardEvent} event */
function leave(app, event) {
  if (app.panel) {
    event.preventDefault();
    app.panel.leave();
  }
}

/** @param {import("./app.js").MembersApp} app @param {Context} context @param {KeyboardEvent} event */
function press(app, context, event) {
  if (isTyping(event.target) || !areOn()) return;
  /** @type {Record<string, () => unknown>} */
  const actions = {
    "/": () => app.list?.focusSearch(),
    n: () =>
      context.session.may("write") &&
      context.router.go(formatPlace("members", "new", context.router.place.query)),
    e: () => app.panel?.edit(),
    "?": () => showKeys(),
  };
  if (!Object.hasOwn(actions, event.key)) return;
  event.preventDefault();
  void actions[event.key]();
}

/** @param {EventTarget | null} target */
function isTyping(target) {
  return target instanceof HTMLElement && target.matches("input, textarea, select");
}

function areOn() {
  return localStorage.getItem(STORED) !== "off";
}

/** Show the shortcuts, and let them be switched off. */
export function showKeys() {
  return showDialog(text.keys.title, () => [
    h(
      "table",
      { class: "keys" },
      h(
        "tbody",
        {},
        text.keys.rows.map(([key, meaning]) =>
          h(
            "tr",
            {},
            h(
              "th",
              { scope: "row" },
              key.split(" ").map((one) => h("kbd", {}, one)),
            ),
            h("td", {}, meaning),
          ),
        ),
      ),
    ),
    h(
      "label",
      { class: "check" },
      h("input", {
        type: "checkbox",
        checked: areOn(),
        onchange: (/** @type {Event} */ event) => {
          const box = /** @type {HTMLInputElement} */ (event.target);
          if (box.checked) localStorage.removeItem(STORED);
          else localStorage.setItem(STORED, "off");
        },
      }),
      text.keys.single,
    ),
  ]);
}
