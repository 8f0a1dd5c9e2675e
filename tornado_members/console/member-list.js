/** `<member-list>`: search, filters, and a page of members with live changes. */

import { isAbort, Unreachable } from "./api.js";
import { fill, h, icon } from "./dom.js";
import { errorState, explain, emptyState } from "./faults.js";
import { ListFilters } from "./list-filters.js";
import { MemberTable } from "./member-table.js";
import { formatRoute } from "./router.js";
import { formatNumber, text } from "./text.js";

/** @typedef {import("./app.js").Context} Context */
/** @typedef {import("./router.js").Route} Route */

const TYPING_MS = 160;
const LIMITS = ["50", "200", "1000"];
const LIST_PARAMETERS = ["limit", "sort", "after"];

export class MemberList extends HTMLElement {
  #query = new URLSearchParams();
  #trail = /** @type {string[]} */ ([]); // the cursors of the previous pages
  #requested = /** @type {string | null} */ (null);
  #loading = /** @type {AbortController | null} */ (null);
  #typing = 0;
  #failed = false;
  #next = /** @type {string | null} */ (null);
  #created = 0;
  #addedHere = /** @type {Set<number>} */ (new Set()); // ids of members that were added in this tab
  #search = h("input", {
    type: "search",
    id: "search",
    autocomplete: "off",
    spellcheck: "false",
    dir: "auto",
    enterkeyhint: "search",
    "aria-describedby": "search-fault",
  });
  #fault = h("p", { class: "fault", id: "search-fault", role: "alert", hidden: true });
  #summary = h("p", { class: "summary", role: "status" });
  #countButton = h(
    "button",
    { type: "button", class: "link", onclick: () => this.#count() },
    text.list.count,
  );
  #newMembersButton = h("button", {
    type: "button",
    class: "new-members",
    hidden: true,
    onclick: () => this.#load(),
  });
  #live = h("span", { class: "live", hidden: true });
  #content = h("div", { class: "list-content" });
  #pages = h("nav", { class: "pages", "aria-label": text.list.next, hidden: true });
  #sort = h("select", { id: "sort" });
  #limit = h("select", { id: "limit" });

  /** @param {Context} context */
  constructor(context) {
    super();
    this.context = context;
    this.filters = new ListFilters(context.schema, (values) => this.#set(values));
    this.table = new MemberTable(context.schema, {
      href: (id) => formatRoute("members", String(id), this.#query),
      sort: (order) => this.#set({ sort: order }),
    });
  }

  connectedCallback() {
    const { feed } = this.context;
    if (!this.firstChild) this.#build();
    feed.addEventListener("change", this.#changed);
    feed.addEventListener("gap", this.#gap);
    for (const name of ["live", "lost"]) feed.addEventListener(name, this.#showLive);
    this.#showLive();
  }

  disconnectedCallback() {
    const { feed } = this.context;
    this.#loading?.abort();
    feed.removeEventListener("change", this.#changed);
    feed.removeEventListener("gap", this.#gap);
    for (const name of ["live", "lost"]) feed.removeEventListener(name, this.#showLive);
  }

  /** Show the page of a route. @param {Route} route @param {string[]} trail */
  show(route, trail) {
    if (!this.firstChild) this.#build();
    this.#query = route.query;
    this.#trail = trail;
    const typed = route.query.get(this.#searchParameter) ?? "";
    if (document.activeElement !== this.#search) this.#search.value = typed;
    this.filters.show(route.query);
    this.#sort.value = route.query.get("sort") ?? "memberId";
    this.#limit.value = route.query.get("limit") ?? LIMITS[0];
    this.table.current = Number(route.id) || null;
    if (this.#requested !== this.#apiQuery().toString() || this.#failed) void this.#load();
    else this.table.refreshLinks();
  }

  /** Show a member that was added, saved or deleted in this tab. @param {{memberId: number, member: any, isNew?: boolean}} saved */
  receive({ memberId, member, isNew = false }) {
    if (isNew) {
      this.#addedHere.add(memberId);
      void this.#load();
    } else if (member) this.table.apply(memberId, member, false);
    else this.table.remove(memberId);
  }

  reloadIfFailed() {
    if (this.#failed) void this.#load();
  }

  focusSearch() {
    this.#search.focus();
    this.#search.select();
  }

  /** @param {number} memberId */
  focusMember(memberId) {
    if (!this.table.focus(memberId)) this.#search.focus();
  }

  get #searchParameter() {
    return this.context.schema.search ? "q" : "name_prefix";
  }

  #build() {
    const { schema, session } = this.context;
    this.#search.placeholder = schema.search ? text.list.searchHint : text.list.searchHintName;
    this.#search.addEventListener("input", () => this.#typed());
    this.#search.addEventListener("keydown", (event) => this.#searchKey(event));
    this.#sort.addEventListener("change", () => this.#set({ sort: this.#sort.value }));
    this.#limit.addEventListener("change", () => this.#set({ limit: this.#limit.value }));
    fill(
      this.#sort,
      schema.sorts.map((one) => h("option", { value: one }, text.list.sorts[one] ?? one)),
    );
    fill(
      this.#limit,
      LIMITS.map((one) => h("option", { value: one }, formatNumber(Number(one)))),
    );
    fill(
      this,
      h(
        "div",
        { class: "toolbar", role: "search" },
        h(
          "div",
          { class: "search" },
          icon("search"),
          h("label", { for: "search", class: "visually-hidden" }, text.list.search),
          this.#search,
          h("kbd", { "aria-hidden": "true" }, text.list.shortcut),
        ),
        this.filters.button,
        h("button", { type: "button", onclick: () => this.#export() }, text.list.export),
        session.may("write") &&
          h(
            "a",
            { class: "button primary", href: formatRoute("members", "new") },
            icon("add"),
            text.list.add,
          ),
      ),
      this.#fault,
      this.filters.form,
      h(
        "div",
        { class: "list-head" },
        this.#summary,
        this.#countButton,
        this.#live,
        h("div", { class: "field inline" }, h("label", { for: "sort" }, text.list.sort), this.#sort),
        h("div", { class: "field inline" }, h("label", { for: "limit" }, text.list.perPage), this.#limit),
      ),
      this.#newMembersButton,
      this.#content,
      this.#pages,
    );
    this.#showLive();
  }

  #typed() {
    clearTimeout(this.#typing);
    this.#loading?.abort(); // its result is outdated
    this.#typing = window.setTimeout(() => this.#setSearch(true), TYPING_MS);
  }

  /** @param {KeyboardEvent} event */
  #searchKey(event) {
    if (event.key === "Enter") {
      event.preventDefault();
      clearTimeout(this.#typing);
      this.#setSearch(false);
    } else if (event.key === "Escape" && this.#search.value) {
      event.preventDefault();
      event.stopPropagation();
      this.#search.value = "";
      clearTimeout(this.#typing);
      this.#setSearch(false);
    } else if (event.key === "ArrowDown") {
      event.preventDefault();
      this.table.focusFirst();
    }
  }

  /** @param {boolean} replace */
  #setSearch(replace) {
    const value = this.#search.value.trim();
    if (value !== (this.#query.get(this.#searchParameter) ?? ""))
      this.#set({ [this.#searchParameter]: value }, replace);
  }

  /** Go to the first page of the list with other parameters. @param {Record<string, string>} values @param {boolean} [replace] */
  #set(values, replace = false) {
    const query = new URLSearchParams(this.#query);
    query.delete("after");
    for (const [name, value] of Object.entries(values)) {
      if (value) query.set(name, value);
      else query.delete(name);
    }
    this.context.router.go(formatRoute("members", this.context.router.route.id, query), {
      replace,
      trail: [],
    });
  }

  /** The query parameters of the request for this page. */
  #apiQuery() {
    const known = new Set([...LIST_PARAMETERS, this.#searchParameter, ...this.context.schema.filters]);
    return new URLSearchParams([...this.#query].filter(([name, value]) => known.has(name) && value));
  }

  async #load() {
    this.#loading?.abort();
    const loading = new AbortController();
    this.#loading = loading;
    const query = this.#apiQuery();
    this.#requested = query.toString();
    this.#failed = false;
    this.#setBusy(true);
    try {
      const page = await this.context.api.get(`/members?${query}`, { signal: loading.signal });
      this.#showPage(page);
    } catch (error) {
      if (!isAbort(error)) this.#showError(error);
      else if (this.#loading === loading) this.#requested = null;
    } finally {
      if (this.#loading === loading || this.#loading?.signal.aborted) this.#setBusy(false);
    }
  }

  /** @param {boolean} busy */
  #setBusy(busy) {
    this.#content.setAttribute("aria-busy", String(busy));
    if (busy && !this.#content.firstChild)
      fill(
        this.#content,
        h(
          "div",
          { class: "skeleton", "aria-hidden": "true" },
          Array.from({ length: 8 }, () => h("span", {})),
        ),
      );
    if (busy && !this.#summary.textContent) this.#summary.textContent = text.list.loading;
  }

  /** @param {{items: any[], next: string | null}} page */
  #showPage({ items, next }) {
    this.#next = next;
    this.#fault.hidden = true;
    this.#created = 0;
    this.#newMembersButton.hidden = true;
    fill(this.#countButton, text.list.count);
    this.#countButton.hidden = items.length === 0;
    this.#summary.textContent = text.list.shown(items.length, this.#trail.length + 1);
    if (items.length) {
      this.table.fill(items, this.#query.get("sort") ?? "memberId");
      if (this.#content.firstElementChild !== this.table.element) fill(this.#content, this.table.element);
    } else {
      const { empty, emptyHelp, nothing, nothingHelp, clear } = text.list;
      const isFiltered = this.#filterNames().length > 0;
      fill(
        this.#content,
        isFiltered
          ? emptyState(
              nothing,
              nothingHelp,
              h("button", { type: "button", onclick: () => this.#clear() }, clear),
            )
          : emptyState(empty, emptyHelp),
      );
    }
    this.#showPages();
  }

  #filterNames() {
    return [...this.#apiQuery().keys()].filter((name) => !LIST_PARAMETERS.includes(name));
  }

  #clear() {
    this.#search.value = "";
    this.#set(Object.fromEntries(this.#filterNames().map((name) => [name, ""])));
    this.#search.focus();
  }

  #showPages() {
    const after = this.#query.get("after");
    this.#pages.hidden = !this.#next && !after;
    fill(
      this.#pages,
      h(
        "button",
        { type: "button", disabled: !after, onclick: () => this.#back() },
        icon("previous"),
        this.#trail.length ? text.list.previous : text.list.first,
      ),
      h("span", {}, formatNumber(this.#trail.length + 1)),
      h(
        "button",
        { type: "button", disabled: !this.#next, onclick: () => this.#forward() },
        text.list.next,
        icon("next"),
      ),
    );
  }

  #back() {
    this.#turn(this.#trail[this.#trail.length - 1] ?? "", this.#trail.slice(0, -1));
  }

  #forward() {
    const next = this.#next && new URL(this.context.api.nextUrl(this.#next)).searchParams.get("after");
    if (next) this.#turn(next, [...this.#trail, this.#query.get("after") ?? ""]);
  }

  /** Go to another page. @param {string} after its cursor @param {string[]} trail */
  #turn(after, trail) {
    const query = new URLSearchParams(this.#query);
    if (after) query.set("after", after);
    else query.delete("after");
    this.context.router.go(formatRoute("members", this.context.router.route.id, query), { trail });
    this.#toTop();
  }

  #toTop() {
    this.scrollIntoView({ block: "start" });
  }

  /** @param {unknown} error */
  #showError(error) {
    this.#failed = true;
    if (error instanceof Unreachable && this.table.size) return; // the banner reports it; keep the page
    const parameter = /** @type {any} */ (error).body?.parameter;
    if (parameter && parameter === this.#searchParameter) {
      this.#fault.textContent = explain(error);
      this.#fault.hidden = false;
      this.#failed = false;
      return;
    }
    this.#summary.textContent = "";
    this.#countButton.hidden = true;
    this.#pages.hidden = true;
    const restart = parameter === "after" ? () => this.#set({}) : () => this.#load();
    fill(this.#content, errorState(error, restart));
  }

  async #count() {
    const query = this.#apiQuery();
    for (const name of LIST_PARAMETERS) query.delete(name);
    query.set("limit", "1");
    this.#countButton.disabled = true;
    try {
      const answer = await this.context.api.request("GET", `/members?${query}`, {
        headers: { Prefer: "count=exact" },
      });
      const total = Number(answer.headers.get("X-Total-Count"));
      fill(this.#countButton, text.list.counted(total));
    } catch (error) {
      this.context.notices.show(explain(error));
    } finally {
      this.#countButton.disabled = false;
    }
  }

  async #export() {
    const { showExport } = await import("./export.js");
    const query = this.#apiQuery();
    for (const name of ["limit", "after"]) query.delete(name);
    await showExport(this.context, query);
  }

  #changed = (/** @type {Event} */ event) => {
    const { event: kind, data } = /** @type {CustomEvent} */ (event).detail;
    if (kind === "deleted") this.table.remove(data.memberId);
    else if (
      !this.table.apply(data.memberId, data.member, true) &&
      kind === "created" &&
      !this.#addedHere.has(data.memberId)
    )
      this.#announceNew();
  };

  #announceNew() {
    this.#created += 1;
    this.#newMembersButton.hidden = false;
    this.#newMembersButton.textContent = text.list.created(this.#created);
  }

  #gap = () => {
    void this.#load();
  };

  #showLive = () => {
    const { feed, schema } = this.context;
    this.#live.hidden = !schema.feed;
    this.#live.classList.toggle("lost", !feed.isLive);
    this.#live.textContent = feed.isLive ? text.list.live : text.list.notLive;
  };
}

customElements.define("member-list", MemberList);
