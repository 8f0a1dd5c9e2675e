/** `<users-view>`: the users of the login, for administrators. */

import { Problem } from "./api.js";
import { confirm, showDialog } from "./dialog.js";
import { fill, h, icon, isolated, uniqueId } from "./dom.js";
import { errorState, explain, showFaults, emptyState } from "./faults.js";
import { FieldInput } from "./fields.js";
import { formatRoute } from "./router.js";
import { text } from "./text.js";

/** @typedef {{username: string, accessRights: number, memberId: number | null}} User */

export class UsersView extends HTMLElement {
  #body = h("tbody");
  #content = h("div");
  #foot = h("div", { class: "actions" });

  /** @param {import("./app.js").Context} context */
  constructor(context) {
    super();
    this.context = context;
  }

  connectedCallback() {
    const add = h(
      "button",
      { type: "button", class: "primary", onclick: () => this.#edit(null) },
      icon("add"),
      text.users.add,
    );
    fill(
      this,
      h(
        "div",
        { class: "page-head" },
        h("div", {}, h("h1", {}, text.users.title), h("p", { class: "lead" }, text.users.lead)),
        add,
      ),
      this.#content,
      this.#foot,
    );
    void this.#load();
  }

  async #load() {
    fill(this.#content, h("p", { class: "loading", role: "status" }, text.users.loading));
    this.#body.replaceChildren();
    await this.#loadPage("/users?limit=200");
  }

  /** @param {string} address */
  async #loadPage(address) {
    try {
      const page = await this.context.api.get(address);
      this.#body.append(...page.items.map((/** @type {User} */ user) => this.#row(user)));
      const { username, rights, member, actions } = text.users;
      const titles = [username, rights, member].map((title) => h("th", { scope: "col" }, title));
      const head = h(
        "thead",
        {},
        h("tr", {}, titles, h("th", { scope: "col" }, h("span", { class: "visually-hidden" }, actions))),
      );
      const table = h(
        "div",
        { class: "boxed scroll" },
        h("table", { class: "users-table" }, head, this.#body),
      );
      fill(this.#content, this.#body.firstChild ? table : emptyState(text.users.empty, text.users.emptyHelp));
      const next = page.next && this.context.api.nextUrl(page.next);
      fill(
        this.#foot,
        next && h("button", { type: "button", onclick: () => this.#loadPage(next) }, text.users.more),
      );
    } catch (error) {
      fill(
        this.#content,
        errorState(error, () => this.#load()),
      );
    }
  }

  /** @param {User} user */
  #row(user) {
    const { session } = this.context;
    const isOwn = session.usesPassword && user.username === session.subject;
    const member =
      user.memberId === null
        ? text.users.memberNone
        : h("a", { href: formatRoute("members", String(user.memberId)) }, String(user.memberId));
    const named = (/** @type {string} */ word) => `${word} ${user.username}`;
    return h(
      "tr",
      {},
      h(
        "th",
        { scope: "row", class: "wrap" },
        h("strong", {}, isolated(user.username)),
        isOwn && h("span", { class: "help" }, ` (${text.users.you})`),
      ),
      h("td", {}, text.users.rightsNames[user.accessRights] ?? String(user.accessRights)),
      h("td", { class: user.memberId === null ? "none" : "", "data-label": text.users.member }, member),
      h(
        "td",
        {},
        h(
          "div",
          { class: "actions" },
          h(
            "button",
            { type: "button", "aria-label": named(text.users.edit), onclick: () => this.#edit(user) },
            text.users.edit,
          ),
          !isOwn &&
            h(
              "button",
              {
                type: "button",
                class: "danger quiet",
                "aria-label": named(text.users.remove),
                onclick: () => this.#remove(user),
              },
              text.users.remove,
            ),
        ),
      ),
    );
  }

  /** @param {User} user */
  async #remove(user) {
    const { removeTitle, removeLead, remove, removed } = text.users;
    if (!(await confirm(removeTitle(user.username), removeLead, remove, text.cancel))) return;
    try {
      await this.context.api.request("DELETE", pathOf(user));
      this.context.notices.show(removed(user.username));
    } catch (error) {
      this.context.notices.show(explain(error));
    }
    await this.#load();
  }

  /** Show the form of a user, or of a new one. @param {User | null} user */
  async #edit(user) {
    const form = new UserForm(this.context.api, user);
    const title = user ? text.users.editTitle(user.username) : text.users.addTitle;
    const saved = await showDialog(title, (/** @type {(name: string) => void} */ close) => {
      form.done = close;
      return [form.element];
    });
    if (saved === null) return;
    this.context.notices.show(text.users.saved(saved));
    await this.#load();
  }
}

class UserForm {
  done = (/** @type {string} */ _name) => {};
  #fault = h("div", { class: "fault", role: "alert", hidden: true });
  #rights;

  /** @param {import("./api.js").Api} api @param {User | null} user */
  constructor(api, user) {
    this.api = api;
    this.user = user;
    const {
      username,
      password,
      newPassword,
      passwordHelp,
      keepPassword,
      member,
      memberHelp,
      rights,
      rightsNames,
    } = text.users;
    const name = new FieldInput(plainField("username", username, true), user?.username ?? "");
    const secret = new FieldInput(plainField("password", user ? newPassword : password, !user), "");
    const bound = new FieldInput(
      { ...plainField("memberId", member, false), type: "integer", minimum: 1 },
      user?.memberId ?? null,
    );
    secret.control.setAttribute("type", "password");
    secret.control.setAttribute("autocomplete", "new-password");
    addHelp(secret, user ? `${keepPassword} ${passwordHelp}` : passwordHelp);
    addHelp(bound, memberHelp);
    this.inputs = user ? [secret, bound] : [name, secret, bound];
    const group = uniqueId("rights");
    this.#rights = h(
      "fieldset",
      {},
      h("legend", {}, rights),
      rightsNames.map((label, i) =>
        h(
          "label",
          { class: "check" },
          h("input", { type: "radio", name: group, value: i, checked: i === (user?.accessRights ?? 1) }),
          label,
        ),
      ),
    );
    const [first, ...others] = this.inputs;
    this.element = h(
      "form",
      { novalidate: true, onsubmit: (/** @type {Event} */ event) => this.#submit(event) },
      this.#fault,
      first.element,
      user ? null : others[0].element,
      this.#rights,
      this.inputs[this.inputs.length - 1].element,
      h("div", { class: "actions" }, h("button", { class: "primary" }, text.save)),
    );
  }

  /** @param {Event} event */
  async #submit(event) {
    event.preventDefault();
    this.#fault.hidden = true;
    for (const input of this.inputs) input.clearFault();
    const chosen = this.#rights.querySelector("input:checked");
    /** @type {Record<string, unknown>} */
    const values = { accessRights: chosen instanceof HTMLInputElement ? Number(chosen.value) : null };
    for (const input of this.inputs) values[input.field.key] = input.value;
    if (this.user && values.password === null) delete values.password;
    if (this.user && values.memberId === this.user.memberId) delete values.memberId;
    try {
      const answer = this.user
        ? await this.api.request("PATCH", pathOf(this.user), {
            json: values,
            headers: { "Content-Type": "application/merge-patch+json" },
          })
        : await this.api.request("POST", "/users", { json: values });
      this.done((await answer.json()).username);
    } catch (error) {
      this.#show(error);
    }
  }

  /** @param {unknown} error */
  #show(error) {
    if (error instanceof Problem && error.code === "username-taken") {
      this.inputs[0].setFault(text.users.taken);
      this.inputs[0].control.focus();
      return;
    }
    const unmatched = error instanceof Problem ? showFaults(error, this.inputs) : [];
    const message =
      error instanceof Problem && error.errors.length
        ? text.form.faults(error.errors.length)
        : explain(error);
    fill(this.#fault, [message, ...unmatched].join(" "));
    this.#fault.hidden = false;
    this.inputs.find((input) => !input.fault.hidden)?.control.focus();
  }
}

/** @param {FieldInput} input @param {string} help */
function addHelp(input, help) {
  const id = `${input.id}-note`;
  input.control.after(h("p", { class: "help", id }, help));
  input.control.setAttribute("aria-describedby", id);
}

/** @param {string} key @param {string} label @param {boolean} required @returns {import("./schema.js").Field} */
function plainField(key, label, required) {
  return {
    key,
    path: [key],
    pointer: `/${key}`,
    label,
    description: "",
    type: "string",
    required,
    list: false,
    choices: null,
    minimum: null,
    maximum: null,
    maxLength: null,
    default: null,
  };
}

/** @param {User} user */
function pathOf(user) {
  return `/users/${encodeURIComponent(user.username)}`;
}

customElements.define("users-view", UsersView);
