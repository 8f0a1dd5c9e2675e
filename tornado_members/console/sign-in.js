/** `<sign-in>`: signs in with a username and password, or with a token. */

import { Problem } from "./api.js";
import { showDialog } from "./dialog.js";
import { fill, h, uniqueId } from "./dom.js";
import { explain } from "./faults.js";
import { text } from "./text.js";
import "./theme.js";

/** @typedef {import("./app.js").Context} Context */

export class SignIn extends HTMLElement {
  /** @param {Context} context */
  constructor(context) {
    super();
    this.context = context;
  }

  connectedCallback() {
    document.title = this.context.title;
    const form = new CredentialsForm(this.context);
    fill(
      this,
      h("img", { src: new URL("icon.svg", import.meta.url).href, alt: "", width: 48, height: 48 }),
      h("h1", {}, this.context.title),
      h("p", { class: "lead" }, text.signIn.lead),
      form.element,
    );
    form.focus();
  }
}

/** Show a sign-in dialog above the current view. Returns true if there is a new token. @param {Context} context @param {string} title */
export async function promptForSignIn(context, title) {
  const open = document.querySelector("dialog[data-sign-in]");
  if (open)
    return new Promise((resolve) =>
      open.addEventListener("close", () => resolve(context.session.minutesLeft() !== 0)),
    );
  const form = new CredentialsForm(context, context.session.subject);
  const answer = showDialog(title, (/** @type {(result: boolean) => void} */ close) => {
    form.done = () => close(true);
    return [h("p", {}, text.signIn.againLead), form.element];
  });
  form.element.closest("dialog")?.setAttribute("data-sign-in", "");
  form.focus();
  return (await answer) === true;
}

class CredentialsForm {
  done = () => {};
  #usesToken;
  #fault = h("p", { class: "fault", role: "alert", hidden: true });

  /** @param {Context} context @param {string} [username] */
  constructor(context, username = "") {
    this.context = context;
    this.username = username;
    const { session, schema } = context;
    this.#usesToken = !schema.login || (username !== "" && !session.usesPassword);
    this.element = h("form", {
      class: "credentials",
      novalidate: true,
      onsubmit: (/** @type {Event} */ event) => this.#submit(event),
    });
    this.#fill();
  }

  focus() {
    const empty = [...this.element.querySelectorAll("input, textarea")].find(
      (one) => !(/** @type {HTMLInputElement} */ (one).value),
    );
    if (empty instanceof HTMLElement) empty.focus();
  }

  #fill() {
    const { schema } = this.context;
    const ids = {
      first: uniqueId("credentials"),
      second: uniqueId("credentials"),
      keep: uniqueId("credentials"),
    };
    const other = this.#usesToken ? text.signIn.usePassword : text.signIn.useToken;
    const name = h("input", {
      id: ids.first,
      name: "username",
      autocomplete: "username",
      autocapitalize: "none",
      spellcheck: "false",
      dir: "auto",
    });
    name.value = this.username;
    fill(
      this.element,
      this.#usesToken
        ? field(
            text.signIn.token,
            h("textarea", {
              id: ids.first,
              name: "token",
              rows: 4,
              autocomplete: "off",
              spellcheck: "false",
              class: "token",
              "aria-describedby": `${ids.first}-help`,
            }),
            text.signIn.tokenHelp,
          )
        : [
            field(text.signIn.username, name),
            field(
              text.signIn.password,
              h("input", {
                id: ids.second,
                name: "password",
                type: "password",
                autocomplete: "current-password",
              }),
            ),
          ],
      h(
        "label",
        { class: "check" },
        h("input", {
          type: "checkbox",
          name: "keep",
          checked: this.context.session.keepsToken,
          "aria-describedby": ids.keep,
        }),
        text.signIn.keep,
      ),
      h("p", { class: "help", id: ids.keep }, text.signIn.keepHelp),
      this.#fault,
      h(
        "div",
        { class: "actions" },
        h("button", { class: "primary" }, text.signIn.submit),
        schema.login && h("button", { type: "button", class: "link", onclick: () => this.#swap() }, other),
      ),
    );
  }

  #swap() {
    this.#usesToken = !this.#usesToken;
    this.#fault.hidden = true;
    this.#fill();
    this.focus();
  }

  /** @param {Event} event */
  async #submit(event) {
    event.preventDefault();
    const values = Object.fromEntries(new FormData(this.element));
    const empty = [...this.element.querySelectorAll("input, textarea")].find(
      (one) => !(/** @type {HTMLInputElement} */ (one).value),
    );
    if (empty instanceof HTMLElement) {
      this.#show(text.signIn.missing);
      empty.focus();
      return;
    }
    const button = /** @type {HTMLButtonElement} */ (this.element.querySelector("button.primary"));
    button.disabled = true;
    button.textContent = text.signIn.busy;
    this.#fault.hidden = true;
    try {
      await this.#signIn(values);
      this.done();
    } catch (error) {
      this.#show(reasonOf(error, this.#usesToken));
      const last = [...this.element.querySelectorAll("input:not([type=checkbox]), textarea")].pop();
      if (last instanceof HTMLInputElement || last instanceof HTMLTextAreaElement) last.select();
    } finally {
      button.disabled = false;
      button.textContent = text.signIn.submit;
    }
  }

  /** @param {Record<string, FormDataEntryValue>} values */
  async #signIn(values) {
    const { session } = this.context;
    const keep = values.keep === "on";
    if (this.#usesToken) await session.useToken(String(values.token), keep);
    else await session.signIn(String(values.username), String(values.password), keep);
  }

  /** @param {string} message */
  #show(message) {
    this.#fault.textContent = message;
    this.#fault.hidden = false;
  }
}

/** @param {string} label @param {HTMLInputElement | HTMLTextAreaElement} control @param {string} [help] */
function field(label, control, help) {
  return h(
    "div",
    { class: "field" },
    h("label", { for: control.id }, label),
    control,
    help && h("p", { class: "help", id: `${control.id}-help` }, help),
  );
}

/** @param {unknown} error @param {boolean} usesToken */
function reasonOf(error, usesToken) {
  if (!(error instanceof Problem)) return explain(error);
  if (error.code === "login-failed") return text.signIn.failed;
  if (error.code === "user-blocked") return text.signIn.blocked;
  if (error.status === 429) return text.signIn.tooMany(error.retryAfter);
  return usesToken && error.status === 401 ? text.signIn.badToken : explain(error);
}

customElements.define("sign-in", SignIn);
