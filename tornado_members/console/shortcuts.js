/** Single-key shortcuts. They can be switched off (WCAG 2.1.4). */

import { showDialog } from "./dialog.js";
import { h } from "./dom.js";
import { formatRoute } from "./router.js";
import { text } from "./text.js";

const STORAGE_KEY = "tornado-members-shortcuts";

/** @typedef {import("./app.js").Context} Context */

let isInstalled = false;

/** @param {import("./app.js").MembersApp} app @param {Context} context */
export function installShortcuts(app, context) {
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
      context.router.go(formatRoute("members", "new", context.router.route.query)),
    e: () => app.panel?.edit(),
    "?": () => showShortcuts(),
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
  return localStorage.getItem(STORAGE_KEY) !== "off";
}

/** Show the shortcuts, and a checkbox that switches them off. */
export function showShortcuts() {
  return showDialog(text.shortcuts.title, () => [
    h(
      "table",
      { class: "shortcuts" },
      h(
        "tbody",
        {},
        text.shortcuts.rows.map(([key, meaning]) =>
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
          if (box.checked) localStorage.removeItem(STORAGE_KEY);
          else localStorage.setItem(STORAGE_KEY, "off");
        },
      }),
      text.shortcuts.single,
    ),
  ]);
}
