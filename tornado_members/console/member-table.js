/** The table of a page of members. Rows are reused, and updated when their members change. */

import { fill, h, icon } from "./dom.js";
import { valueText } from "./fields.js";
import { equal, valueOf } from "./schema.js";
import { labelOf, text } from "./text.js";

/** @typedef {import("./schema.js").Field} Field */
/** @typedef {{row: HTMLTableRowElement, link: HTMLAnchorElement, cells: HTMLElement[], mark: HTMLElement, member: any}} Row */

const FIRST_ROWS = 60; // shown at once; the others follow, frame by frame
const ROWS_PER_FRAME = 120;
const WIDTHS = /** @type {Record<string, string>} */ ({
  email: "minmax(0, 1.5fr)",
  phone: "minmax(0, 11rem)",
});
const MARK_MS = 4000;
const MAX_COLUMNS = 5;

export class MemberTable {
  #rows = /** @type {Map<number, Row>} */ (new Map());
  #body = h("tbody", { role: "rowgroup" });
  #head = h("thead", { role: "rowgroup" });
  #frame = 0;
  #current = /** @type {number | null} */ (null);

  /**
   * @param {import("./schema.js").Schema} schema
   * @param {{href: (id: number) => string, sort: (order: string) => void}} actions
   */
  constructor(schema, actions) {
    this.actions = actions;
    this.sorts = schema.sorts;
    const indexed = schema.fields.filter(
      (field) => field.path.length === 1 || schema.filters.includes(field.key),
    );
    this.fields = indexed.filter((field) => field.key !== "name").slice(0, MAX_COLUMNS - 1);
    // Explicit roles: a narrow window shows the rows as blocks, which would remove the implicit ones.
    this.element = h(
      "table",
      { class: "members-table", role: "table", "aria-label": text.list.title },
      this.#head,
      this.#body,
    );
    const widths = this.fields.map((field) => WIDTHS[field.type] ?? "minmax(0, 0.8fr)");
    this.element.style.setProperty("--columns", `minmax(0, 1.2fr) ${widths.join(" ")} 4.75rem`);
    this.element.addEventListener("keydown", (event) => this.#key(event));
  }

  get size() {
    return this.#rows.size;
  }

  /** The member that is open beside the list. @param {number | null} memberId */
  set current(memberId) {
    const before = this.#current === null ? undefined : this.#rows.get(this.#current);
    this.#current = memberId;
    if (before) this.#showCurrent(before);
    const after = memberId === null ? undefined : this.#rows.get(memberId);
    if (after) this.#showCurrent(after);
  }

  /** Replace the rows. @param {any[]} members @param {string} sort */
  fill(members, sort) {
    cancelAnimationFrame(this.#frame);
    this.#fillHead(sort);
    const old = this.#rows;
    this.#rows = new Map();
    const take = (/** @type {any} */ member) => {
      const row = old.get(member.memberId) ?? this.#makeRow();
      this.#rows.set(member.memberId, row);
      this.#update(row, member);
      row.link.tabIndex = -1;
      return row.row;
    };
    this.#body.replaceChildren(...members.slice(0, FIRST_ROWS).map(take));
    const first = this.#rows.values().next().value;
    if (first) first.link.tabIndex = 0;
    let done = FIRST_ROWS;
    const more = () => {
      if (done >= members.length) return;
      this.#body.append(...members.slice(done, done + ROWS_PER_FRAME).map(take));
      done += ROWS_PER_FRAME;
      this.#frame = requestAnimationFrame(more);
    };
    this.#frame = requestAnimationFrame(more);
  }

  /**
   * Update the row of a member. Returns false if the member is not in the table.
   * @param {number} memberId @param {any} member @param {boolean} marked mark the row as changed by others
   */
  apply(memberId, member, marked) {
    const row = this.#rows.get(memberId);
    if (!row || !member) return false;
    if (equal(row.member, member)) return true;
    this.#update(row, member);
    row.row.classList.remove("deleted");
    if (marked) this.#mark(row, text.list.changed, true);
    return true;
  }

  /** Mark a member as deleted. @param {number} memberId */
  remove(memberId) {
    const row = this.#rows.get(memberId);
    if (!row) return;
    row.row.classList.add("deleted");
    this.#mark(row, text.list.deleted, false);
  }

  /** Update the links after the query of the list has changed. */
  refreshLinks() {
    for (const [id, row] of this.#rows) row.link.href = this.actions.href(id);
  }

  /** Focus the link of a member. Returns false if the member is not in the table. @param {number} memberId */
  focus(memberId) {
    const row = this.#rows.get(memberId);
    if (row) this.#focusLink(row.link);
    return row !== undefined;
  }

  focusFirst() {
    const first = this.#rows.values().next().value;
    if (first) this.#focusLink(first.link);
  }

  /** @param {Row} row @param {string} word @param {boolean} fades */
  #mark(row, word, fades) {
    row.mark.textContent = word;
    row.row.classList.add("marked");
    if (fades)
      setTimeout(() => {
        row.mark.textContent = "";
        row.row.classList.remove("marked");
      }, MARK_MS);
  }

  /** @returns {Row} */
  #makeRow() {
    const link = h("a", { dir: "auto" });
    const mark = h("span", { class: "mark" });
    const cells = this.fields.map((field) =>
      h("td", { role: "cell", dir: "auto", class: `cell-${field.type}` }),
    );
    const id = h("td", { role: "cell", class: "cell-id" });
    const name = h("th", { role: "rowheader", scope: "row" }, link, mark);
    return {
      row: h("tr", { role: "row" }, name, cells, id),
      link,
      cells: [...cells, id],
      mark,
      member: null,
    };
  }

  /** @param {Row} row @param {any} member */
  #update(row, member) {
    row.member = member;
    row.link.textContent = member.name;
    row.link.href = this.actions.href(member.memberId);
    row.row.classList.remove("deleted", "marked");
    row.mark.textContent = "";
    this.#showCurrent(row);
    this.fields.forEach((field, i) => {
      row.cells[i].textContent = valueText(field, valueOf(member, field));
    });
    row.cells[this.fields.length].textContent = String(member.memberId);
  }

  /** @param {Row} row */
  #showCurrent(row) {
    const isCurrent = row.member.memberId === this.#current;
    row.row.classList.toggle("current", isCurrent);
    if (isCurrent) row.link.setAttribute("aria-current", "true");
    else row.link.removeAttribute("aria-current");
  }

  /** @param {string} sort */
  #fillHead(sort) {
    const cell = (/** @type {string} */ label, /** @type {string} */ key, /** @type {string} */ kind) =>
      this.#headCell(label, key, kind, sort);
    fill(
      this.#head,
      h(
        "tr",
        { role: "row" },
        cell(labelOf("name"), "name", "name"),
        this.fields.map((field) => cell(field.label, field.key, field.type)),
        cell(labelOf("memberId"), "memberId", "id"),
      ),
    );
  }

  /** @param {string} label @param {string} key @param {string} kind @param {string} sort */
  #headCell(label, key, kind, sort) {
    const about = { role: "columnheader", scope: "col", class: `cell-${kind}` };
    if (!this.sorts.includes(key)) return h("th", about, label);
    const orders = /** @type {Record<string, string>} */ ({ [key]: "ascending", [`-${key}`]: "descending" });
    const order = orders[sort];
    const button = h(
      "button",
      { type: "button", onclick: () => this.actions.sort(sort === key ? `-${key}` : key) },
      label,
      order && icon(order === "ascending" ? "up" : "down"),
    );
    return h("th", { ...about, "aria-sort": order }, button);
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const link = event.target instanceof HTMLAnchorElement ? event.target : null;
    if (!link || event.ctrlKey || event.metaKey || event.altKey) return;
    const row = link.closest("tr");
    /** @type {Record<string, Element | null | undefined>} */
    const targets = {
      ArrowDown: row?.nextElementSibling,
      ArrowUp: row?.previousElementSibling,
      Home: this.#body.firstElementChild,
      End: this.#body.lastElementChild,
    };
    if (!Object.hasOwn(targets, event.key)) return;
    event.preventDefault();
    const next = targets[event.key]?.querySelector("a");
    if (next) this.#focusLink(next);
    else if (event.key === "ArrowUp") document.getElementById("search")?.focus();
  }

  /** Focus a link, and make it the only one in the tab order (roving tabindex). @param {HTMLAnchorElement} link */
  #focusLink(link) {
    for (const one of this.#body.querySelectorAll('a[tabindex="0"]')) one.setAttribute("tabindex", "-1");
    link.tabIndex = 0;
    link.focus();
  }
}
