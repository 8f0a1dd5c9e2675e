/** `<app-header>`: the title, the navigation, and the account menu. */

import { fill, h, isolated } from "./dom.js";
import { formatRoute } from "./router.js";
import { chooseTheme, currentTheme, THEMES } from "./theme.js";
import { text } from "./text.js";

/** @typedef {import("./app.js").Context} Context */

export class AppHeader extends HTMLElement {
  #nav = h("nav", { "aria-label": text.nav.label });
  #menu = h("details", { class: "menu account" });
  #timeLeft = h("span", { class: "left" });
  #timer = 0;

  /** @param {Context} context */
  constructor(context) {
    super();
    this.context = context;
  }

  connectedCallback() {
    this.setAttribute("role", "banner");
    fill(
      this,
      h(
        "a",
        { class: "brand", href: "#/members" },
        h("img", { src: new URL("icon.svg", import.meta.url).href, alt: "", width: 28, height: 28 }),
        h("span", {}, this.context.title),
      ),
      this.#nav,
      this.#menu,
    );
    this.#menu.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || !this.#menu.open) return;
      this.#menu.open = false;
      this.#menu.querySelector("summary")?.focus();
      event.stopPropagation();
    });
    addEventListener("click", this.#closeMenu);
    this.#timer = window.setInterval(() => this.#showTimeLeft(), 10_000);
    this.refresh();
  }

  disconnectedCallback() {
    removeEventListener("click", this.#closeMenu);
    clearInterval(this.#timer);
  }

  #closeMenu = (/** @type {MouseEvent} */ event) => {
    if (!event.composedPath().includes(this.#menu)) this.#menu.open = false;
  };

  /** Show the current route and session. */
  refresh() {
    const { session, schema, router } = this.context;
    const sections = [
      { view: "members", offered: true },
      { view: "import", offered: session.may("write") },
      { view: "users", offered: session.may("delete") && schema.users },
      { view: "status", offered: session.may("delete") && schema.status },
    ];
    const current = router.route.view;
    const offered = sections.filter((section) => section.offered);
    const links = offered.map(({ view }) =>
      h(
        "a",
        { href: formatRoute(view), "aria-current": view === current && "page" },
        text.nav[/** @type {"members"} */ (view)],
      ),
    );
    fill(this.#nav, offered.length > 1 ? links : null);
    this.#fillMenu();
    this.#showTimeLeft();
  }

  #fillMenu() {
    const { session } = this.context;
    const may = [...session.permissions].map(
      (one) => text.account.may[/** @type {"members:read"} */ (one)] ?? one,
    );
    fill(
      this.#menu,
      h(
        "summary",
        {},
        h("span", { class: "visually-hidden" }, `${text.account.label}: `),
        isolated(session.subject),
        this.#timeLeft,
      ),
      h(
        "div",
        { class: "menu-content" },
        h("p", {}, `${text.account.signedInAs} `, h("strong", {}, isolated(session.subject))),
        h("p", { class: "help" }, may.join(", ") || text.account.mayNothing),
        h("button", { type: "button", onclick: () => this.#renew() }, text.account.renew),
        this.#themes(),
        h("button", { type: "button", onclick: () => this.#showShortcuts() }, text.account.shortcuts),
        h("button", { type: "button", onclick: () => session.signOut() }, text.account.signOut),
      ),
    );
  }

  #themes() {
    const select = h(
      "select",
      { id: "theme" },
      THEMES.map((one) => h("option", { value: one }, text.account.themes[one])),
    );
    select.value = currentTheme();
    select.addEventListener("change", () => chooseTheme(select.value));
    return h("div", { class: "field inline" }, h("label", { for: "theme" }, text.account.appearance), select);
  }

  async #renew() {
    this.#menu.open = false;
    const { promptForSignIn } = await import("./sign-in.js");
    await promptForSignIn(this.context, text.signIn.renewTitle);
  }

  async #showShortcuts() {
    this.#menu.open = false;
    const { showShortcuts } = await import("./shortcuts.js");
    void showShortcuts();
  }

  #showTimeLeft() {
    const minutes = this.context.session.minutesLeft();
    const { timeLeft, expired } = text.account;
    const shown = minutes === null ? "" : minutes === 0 ? expired : timeLeft(Math.floor(minutes));
    this.#timeLeft.textContent = shown;
    this.#timeLeft.classList.toggle("soon", minutes !== null && minutes < 3);
  }
}

customElements.define("app-header", AppHeader);
