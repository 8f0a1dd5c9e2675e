/** `<member-history>`: the changes of a member as a timeline, newest first. */

import { isAbort, Problem } from "./api.js";
import { fill, h, isolated } from "./dom.js";
import { errorState } from "./faults.js";
import { valueText } from "./fields.js";
import { formatAge, formatTime, labelOf, text } from "./text.js";

export class MemberHistory extends HTMLElement {
  #reading = new AbortController();
  #entries = h("ol", { class: "timeline" });
  #foot = h("div", { class: "actions" });

  /** @param {import("./app.js").Context} context @param {string} path of the member */
  constructor(context, path) {
    super();
    this.context = context;
    this.path = path;
  }

  connectedCallback() {
    fill(this, h("h3", {}, text.history.title), this.#entries, this.#foot);
    void this.#load(`${this.path}/history?limit=20`);
  }

  disconnectedCallback() {
    this.#reading.abort();
  }

  /** @param {string} address */
  async #load(address) {
    fill(this.#foot, h("p", { class: "loading" }, text.history.loading));
    try {
      const page = await this.context.api.get(address, { signal: this.#reading.signal });
      this.#entries.append(...page.items.map((/** @type {any} */ change) => this.#entry(change)));
      const next = page.next && this.context.api.nextUrl(page.next);
      fill(
        this.#foot,
        next && h("button", { type: "button", onclick: () => this.#load(next) }, text.history.more),
      );
    } catch (error) {
      if (isAbort(error)) return;
      const none = error instanceof Problem && error.status === 404;
      fill(
        this.#foot,
        none ? h("p", { class: "help" }, text.history.empty) : errorState(error, () => this.#load(address)),
      );
    }
  }

  /** @param {any} change */
  #entry(change) {
    const by = change.by ? isolated(change.by.subject) : text.history.someone;
    return h(
      "li",
      {},
      h(
        "p",
        { class: "timeline-head" },
        h("strong", {}, text.history.kinds[change.kind] ?? change.kind),
        ` ${text.history.by} `,
        by,
        " · ",
        h("time", { datetime: change.at, title: formatTime(change.at) }, formatAge(change.at)),
      ),
      change.kind === "deleted" ? null : this.#values(change),
    );
  }

  /** @param {any} change */
  #values(change) {
    const before = flatten(change.before);
    const after = flatten(change.after);
    const keys = [...new Set([...Object.keys(before), ...Object.keys(after)])].filter(
      (key) => (before[key] ?? null) !== null || (after[key] ?? null) !== null,
    );
    if (!keys.length) return null;
    return h(
      "dl",
      { class: "changes" },
      keys.map((key) =>
        h(
          "div",
          {},
          h("dt", {}, labelOf(key)),
          h(
            "dd",
            {},
            change.before && this.#side("del", key, before[key], text.history.before),
            this.#side("ins", key, after[key], text.history.after),
          ),
        ),
      ),
    );
  }

  /** @param {"del" | "ins"} tag @param {string} key @param {unknown} value @param {string} label */
  #side(tag, key, value, label) {
    const field = this.context.schema.fields.find((one) => one.key === key) ?? null;
    return h(
      tag,
      {},
      h("span", { class: "visually-hidden" }, `${label}: `),
      isolated(valueText(field, value) || text.history.nothing),
    );
  }
}

/** Return the values of a change by field key. @param {any} values @returns {Record<string, unknown>} */
function flatten(values) {
  /** @type {Record<string, unknown>} */
  const found = {};
  for (const [key, value] of Object.entries(values ?? {})) {
    if (value !== null && typeof value === "object" && !Array.isArray(value)) {
      for (const [inner, one] of Object.entries(value)) found[`${key}.${inner}`] = one;
    } else found[key] = value;
  }
  return found;
}

customElements.define("member-history", MemberHistory);
