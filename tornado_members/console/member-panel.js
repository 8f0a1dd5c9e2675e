/** `<member-panel>`: shows, edits, adds or deletes one member, beside the list. */

import { isAbort, Problem } from "./api.js";
import { showConflict } from "./conflict.js";
import { confirmDeletion } from "./deletion.js";
import { fill, h, icon } from "./dom.js";
import { errorState, emptyState } from "./faults.js";
import { showValue } from "./fields.js";
import { MemberForm } from "./member-form.js";
import { MemberHistory } from "./member-history.js";
import { patchOf } from "./merge.js";
import { formatRoute } from "./router.js";
import { equal, valueOf } from "./schema.js";
import { text } from "./text.js";

/** @typedef {import("./app.js").Context} Context */
/** @typedef {import("./schema.js").Field} Field */

const MERGE_PATCH = { "Content-Type": "application/merge-patch+json" };

export class MemberPanel extends HTMLElement {
  #member = /** @type {any} */ (null);
  #tag = ""; // its ETag
  #form = /** @type {MemberForm | null} */ (null);
  #reading = new AbortController();
  #failed = false;
  #banner = h("p", { class: "banner", role: "status", hidden: true });
  #body = h("div", { class: "panel-body" });

  /** @param {Context} context @param {string} memberId the id, or "new" */
  constructor(context, memberId) {
    super();
    this.context = context;
    this.memberId = memberId;
  }

  get isDirty() {
    return this.#form?.isDirty ?? false;
  }

  connectedCallback() {
    this.setAttribute("role", "region");
    this.setAttribute("aria-label", text.member.id);
    fill(this, this.#banner, this.#body);
    this.context.feed.addEventListener("change", this.#changed);
    if (this.memberId === "new") this.#add();
    else void this.#load();
  }

  disconnectedCallback() {
    this.#reading.abort();
    this.context.feed.removeEventListener("change", this.#changed);
  }

  /** Discard the form. */
  discard() {
    this.#form = null;
  }

  /** Close the form, or else the panel. */
  leave() {
    if (this.#form && this.memberId !== "new") {
      if (!this.#form.isDirty) this.#show();
      else void this.#form.confirmDiscard().then((discards) => discards && this.#show());
      return;
    }
    this.dispatchEvent(new Event("leave"));
  }

  reloadIfFailed() {
    if (this.#failed) void this.#load();
  }

  async #load() {
    this.#failed = false;
    fill(this.#body, h("p", { class: "loading", role: "status" }, text.member.loading));
    try {
      await this.#read();
      this.#show(true);
    } catch (error) {
      if (isAbort(error)) return;
      this.#failed = true;
      const missing = error instanceof Problem && error.status === 404;
      const { missing: title, missingHelp } = text.member;
      fill(
        this.#body,
        this.#closeButton(),
        missing ? emptyState(title, missingHelp) : errorState(error, () => this.#load()),
      );
    }
  }

  /** Read the member and its version. */
  async #read() {
    const answer = await this.context.api.request("GET", this.#path, { signal: this.#reading.signal });
    this.#tag = tagOf(answer);
    this.#member = await answer.json();
    this.#notifyList();
  }

  get #path() {
    return `/members/${encodeURIComponent(this.memberId)}`;
  }

  get #version() {
    return Number(this.#tag.replace(/\D/g, ""));
  }

  /** Send the member to the list. */
  #notifyList() {
    const detail = { memberId: this.#member.memberId, member: this.#member };
    this.dispatchEvent(new CustomEvent("member", { detail }));
  }

  /** @param {boolean} [first] the panel has just been opened */
  #show(first = false) {
    const { session, schema } = this.context;
    const member = this.#member;
    this.#form = null;
    const heading = h("h2", { tabindex: "-1", dir: "auto" }, member.name);
    const fields = schema.fields.filter((field) => field.key !== "name");
    const isEmpty = (/** @type {Field} */ field) =>
      field.path.length > 1 && [null, "[]"].includes(stringOf(valueOf(member, field)));
    const rows = fields
      .filter((field) => !isEmpty(field))
      .map((field) =>
        h(
          "div",
          {},
          h("dt", {}, field.label),
          h("dd", { dir: "auto", "data-key": field.key }, showValue(field, valueOf(member, field))),
        ),
      );
    const empty = fields.filter(isEmpty).map((field) => field.label);
    fill(
      this.#body,
      h("header", {}, heading, this.#closeButton()),
      h(
        "div",
        { class: "actions" },
        session.mayAccess("write", member.memberId) &&
          h("button", { type: "button", class: "primary", onclick: () => this.edit() }, text.member.edit),
        session.may("delete") &&
          h(
            "button",
            { type: "button", class: "danger quiet", onclick: () => this.#delete() },
            text.member.delete,
          ),
      ),
      h("dl", { class: "facts" }, rows),
      empty.length ? h("p", { class: "help" }, text.member.empty(empty.join(", "))) : null,
      h(
        "p",
        { class: "help" },
        `${text.member.id} ${member.memberId} · ${text.member.version(this.#version)}`,
      ),
      schema.history && session.may("delete") && new MemberHistory(this.context, this.#path),
    );
    if (first && matchMedia("(max-width: 899px)").matches) this.scrollIntoView();
    heading.focus({ preventScroll: !first });
  }

  #closeButton() {
    if (this.context.session.isOwnOnly) return null;
    return h(
      "button",
      { type: "button", class: "plain close", "aria-label": text.member.back, onclick: () => this.leave() },
      icon("close"),
    );
  }

  #add() {
    if (!this.context.session.may("write")) {
      fill(this.#body, emptyState(text.errors.forbidden, text.errors.forbiddenHelp));
      return;
    }
    this.#open(
      new MemberForm(
        this.context,
        {},
        { title: text.form.addTitle, submit: text.form.add, busy: text.form.adding },
      ),
    );
  }

  /** Show the form, if the caller may change the member. */
  edit() {
    if (!this.#member || this.#form || !this.context.session.mayAccess("write", this.#member.memberId))
      return;
    this.#banner.hidden = true;
    this.#open(
      new MemberForm(this.context, this.#member, {
        title: text.form.editTitle(this.#member.name),
        submit: text.save,
        busy: text.saving,
      }),
    );
  }

  /** @param {MemberForm} form */
  #open(form) {
    this.#form = form;
    form.save = () => (this.memberId === "new" ? this.#create(form) : this.#save(form));
    form.cancel = () => this.leave();
    fill(this.#body, form.element);
    form.focus();
  }

  /** @param {MemberForm} form */
  async #create(form) {
    const answer = await this.context.api.request("POST", "/members", { json: form.values() });
    const member = await answer.json();
    this.#form = null;
    this.context.notices.show(text.member.added(member.name));
    const detail = { memberId: member.memberId, member, isNew: true };
    this.dispatchEvent(new CustomEvent("member", { detail }));
    const { router } = this.context;
    router.go(formatRoute("members", String(member.memberId), router.route.query), { replace: true });
  }

  /** @param {MemberForm} form */
  async #save(form) {
    const before = this.#member;
    const mine = { ...form.values(), memberId: before.memberId };
    const patch = patchOf(this.context.schema.fields, before, mine);
    if (!Object.keys(patch).length) {
      this.#show();
      this.context.notices.show(text.member.unchanged);
      return;
    }
    try {
      await this.#write(patch);
    } catch (error) {
      if (!(error instanceof Problem && error.status === 412)) throw error;
      await this.#resolve(before, mine);
    }
  }

  /** Patch the version that was read. @param {any} patch */
  async #write(patch) {
    const headers = { ...MERGE_PATCH, "If-Match": this.#tag };
    const answer = await this.context.api.request("PATCH", this.#path, { json: patch, headers });
    this.#tag = tagOf(answer);
    this.#member = await answer.json();
    this.#saved();
  }

  #saved() {
    this.#banner.hidden = true;
    this.#notifyList();
    this.#show();
    this.context.notices.show(text.member.saved(this.#member.name));
  }

  /** Show both versions, and save the chosen values. @param {any} before @param {any} mine */
  async #resolve(before, mine) {
    await this.#read();
    const { fields } = this.context.schema;
    // A first attempt whose response was lost may have made this change already.
    if (fields.every((field) => equal(valueOf(mine, field), valueOf(this.#member, field)))) {
      this.#saved();
      return;
    }
    const patch = await showConflict(fields, before, this.#member, mine);
    if (patch === null) return; // back to the form
    if (!Object.keys(patch).length) {
      this.#show();
      return;
    }
    try {
      await this.#write(patch);
    } catch (error) {
      if (!(error instanceof Problem && error.status === 412)) throw error;
      await this.#resolve(before, mine);
    }
  }

  async #delete() {
    const { context } = this;
    const member = this.#member;
    const deleted = await confirmDeletion(member.name, () =>
      context.api.request("DELETE", this.#path, { headers: { "If-Match": this.#tag } }),
    );
    if (!deleted) return;
    if (deleted === "changed") {
      await this.#load();
      return;
    }
    context.notices.show(text.member.removed(member.name));
    this.dispatchEvent(new CustomEvent("member", { detail: { memberId: member.memberId, member: null } }));
    this.dispatchEvent(new Event("leave"));
  }

  #changed = (/** @type {Event} */ event) => {
    const { event: kind, data } = /** @type {CustomEvent} */ (event).detail;
    if (String(data.memberId) !== this.memberId || !this.#member) return;
    if (kind === "deleted") this.#announce(text.member.deletedLive);
    else if (data.version > this.#version) this.#applyChange(data);
  };

  /** @param {{version: number, member: any}} data */
  #applyChange({ version, member }) {
    if (!member || equal(member, this.#member)) return;
    if (this.#form) {
      this.#announce(text.member.changedWhileEditing);
      return;
    }
    const focused = this.contains(document.activeElement);
    const old = this.#member;
    this.#member = member;
    this.#tag = `"${version}"`;
    const active = document.activeElement;
    this.#show();
    if (!focused && active instanceof HTMLElement) active.focus();
    this.#announce(text.member.changedLive);
    for (const field of this.context.schema.fields) {
      if (equal(valueOf(old, field), valueOf(member, field))) continue;
      const shown =
        field.key === "name"
          ? this.querySelector("h2")
          : this.querySelector(`[data-key="${CSS.escape(field.key)}"]`);
      shown?.classList.add("marked");
    }
  }

  /** @param {string} message */
  #announce(message) {
    this.#banner.textContent = message;
    this.#banner.hidden = false;
  }
}

/** @param {unknown} value */
function stringOf(value) {
  return value === null ? null : JSON.stringify(value);
}

/** Return the ETag of a member without the changes that a compressing proxy may have made. @param {Response} answer */
function tagOf(answer) {
  const version = answer.headers.get("ETag")?.match(/\d+/)?.[0];
  return version ? `"${version}"` : "*";
}

customElements.define("member-panel", MemberPanel);
