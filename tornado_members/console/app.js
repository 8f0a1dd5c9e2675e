/** `<members-app>`: the console. It holds the objects that all views share, and shows the view of the current route. */

import { Api } from "./api.js";
import { confirm } from "./dialog.js";
import { fill, h } from "./dom.js";
import { errorState, emptyState } from "./faults.js";
import { Feed } from "./feed.js";
import { AppNotices, OfflineBanner } from "./notices.js";
import { formatRoute, Router } from "./router.js";
import { readSchema } from "./schema.js";
import { Session } from "./session.js";
import { promptForSignIn, SignIn } from "./sign-in.js";
import { text } from "./text.js";

/** @typedef {import("./app-header.js").AppHeader} AppHeader */
/** @typedef {import("./member-list.js").MemberList} MemberList */
/** @typedef {import("./member-panel.js").MemberPanel} MemberPanel */
/**
 * The objects that views share.
 * @typedef {object} Context
 * @property {Api} api
 * @property {Session} session
 * @property {Router} router
 * @property {import("./schema.js").Schema} schema
 * @property {Feed} feed
 * @property {AppNotices} notices
 * @property {string} title
 */

/** Views that are loaded when they are opened. @type {Record<string, (context: Context) => Promise<HTMLElement>>} */
const LAZY_VIEWS = {
  import: async (context) => new (await import("./import-view.js")).ImportView(context),
  users: async (context) => new (await import("./users-view.js")).UsersView(context),
  status: async (context) => new (await import("./status-view.js")).StatusView(context),
};

export class MembersApp extends HTMLElement {
  #api = new Api(new URL(".", document.baseURI).href);
  #session = new Session(this.#api, sessionStorage);
  #router = new Router();
  #feed = new Feed(this.#api);
  #notices = new AppNotices();
  #banner = new OfflineBanner();
  #main = h("main", { id: "content", tabindex: "-1" });
  #context = /** @type {Context | null} */ (null);
  #header = /** @type {AppHeader | null} */ (null);
  #list = /** @type {MemberList | null} */ (null);
  #panel = /** @type {MemberPanel | null} */ (null);
  #MemberList = /** @type {typeof import("./member-list.js").MemberList | null} */ (null);
  #identity = "";
  #shown = location.hash;
  #view = "";

  connectedCallback() {
    fill(
      this,
      h(
        "a",
        { class: "skip", href: "#content", onclick: (/** @type {Event} */ event) => this.#skip(event) },
        text.skip,
      ),
      this.#banner,
      this.#main,
      this.#notices,
    );
    document.documentElement.lang = text.language;
    this.#api.addEventListener("online", () => this.#showConnection(true));
    this.#api.addEventListener("offline", () => this.#showConnection(false));
    this.#router.addEventListener("change", () => this.#navigated());
    this.#session.addEventListener("change", () => this.#signedInOrOut());
    addEventListener("click", (event) => this.#followLink(event));
    addEventListener("beforeunload", (event) => {
      if (this.#panel?.isDirty) event.preventDefault();
    });
    void this.#start();
  }

  /** The list that is shown, for the keyboard shortcuts. */
  get list() {
    return this.#list;
  }

  get panel() {
    return this.#panel;
  }

  async #start() {
    try {
      const schema = readSchema(await this.#api.get("/openapi.json", { anonymous: true }));
      this.#context = {
        api: this.#api,
        session: this.#session,
        router: this.#router,
        schema,
        feed: this.#feed,
        notices: this.#notices,
        title: this.dataset.title ?? "",
      };
      if (!(await this.#session.resume())) this.#render();
    } catch (error) {
      fill(
        this.#main,
        errorState(error, () => this.#start()),
      );
      this.#api.addEventListener("online", () => this.#context ?? void this.#start(), { once: true });
    }
  }

  /** @param {boolean} online */
  #showConnection(online) {
    this.#banner.online = online;
    if (!online) return;
    this.#notices.show(text.errors.online);
    this.#list?.reloadIfFailed();
    this.#panel?.reloadIfFailed();
  }

  #signedInOrOut() {
    const { isSignedIn, identity } = this.#session;
    this.#header?.refresh();
    if (isSignedIn && this.#identity === identity) {
      this.#startFeed(); // it ends when a token expires
      return;
    }
    this.#identity = identity;
    this.#feed.stop();
    this.#render();
  }

  /** Rebuild the page, for another caller or without one. */
  #render() {
    const context = this.#context;
    if (!context) return;
    document.querySelectorAll("dialog").forEach((dialog) => dialog.close());
    this.#header?.remove();
    this.#header = this.#list = this.#panel = null;
    this.#view = "";
    if (!this.#session.isSignedIn) {
      fill(this.#main, new SignIn(context));
      return;
    }
    this.#api.renew = () => this.#renew(context);
    this.#startFeed();
    void this.#enter(context);
  }

  /** Load the modules needed after signing in, and show the current route. @param {Context} context */
  async #enter(context) {
    const [{ AppHeader }, { installShortcuts }, { MemberList }] = await Promise.all([
      import("./app-header.js"),
      import("./shortcuts.js"),
      import("./member-list.js"),
    ]);
    this.#MemberList = MemberList;
    installShortcuts(this, context);
    this.#header = new AppHeader(context);
    this.#main.before(this.#header);
    await this.#show();
    requestIdleCallback(() => import("./member-panel.js"));
  }

  #startFeed() {
    if (this.#context?.schema.feed && this.#session.may("read")) this.#feed.start();
  }

  /** @param {Context} context */
  async #renew(context) {
    const { identity } = this.#session;
    const renewed = await promptForSignIn(context, text.signIn.again);
    if (!renewed) this.#session.signOut();
    return renewed && this.#session.identity === identity; // never repeat a request as another user
  }

  async #navigated() {
    if (this.#panel?.isDirty && this.#panel.memberId !== this.#router.route.id) {
      const requested = location.hash;
      history.replaceState(history.state, "", this.#shown);
      const { discard, discardHelp, discardYes, discardNo } = text.form;
      if (!(await confirm(discard, discardHelp, discardYes, discardNo))) {
        this.#router.route.id = this.#panel.memberId;
        return;
      }
      this.#panel.discard();
      history.replaceState(history.state, "", requested);
    }
    this.#shown = location.hash;
    if (this.#header) await this.#show();
  }

  async #show() {
    const context = /** @type {Context} */ (this.#context);
    const { view, id } = this.#router.route;
    this.#header?.refresh();
    const makeView = Object.hasOwn(LAZY_VIEWS, view) && this.#mayOpen(view) ? LAZY_VIEWS[view] : null;
    if (makeView) {
      if (this.#view === view) return;
      this.#view = view;
      this.#list = this.#panel = null;
      this.#main.className = "page";
      document.title = `${text.nav[/** @type {"users"} */ (view)]} · ${context.title}`;
      const element = await makeView(context);
      if (this.#view === view) fill(this.#main, element);
      return;
    }
    await this.#showMembers(context, this.#session.isOwnOnly ? String(this.#session.memberId) : id);
  }

  /** @param {string} view */
  #mayOpen(view) {
    const { schema } = /** @type {Context} */ (this.#context);
    if (view === "import") return this.#session.may("write");
    return this.#session.may("delete") && schema[/** @type {"users" | "status"} */ (view)];
  }

  /** @param {Context} context @param {string} id */
  async #showMembers(context, id) {
    if (!this.#session.may("read") && !this.#session.isOwnOnly) {
      this.#view = "nothing";
      this.#main.className = "page";
      fill(this.#main, emptyState(text.errors.forbidden, text.account.mayNothing));
      return;
    }
    if (this.#view !== "members") {
      this.#view = "members";
      this.#main.className = "members";
      this.#list = this.#session.isOwnOnly || !this.#MemberList ? null : new this.#MemberList(context);
      fill(this.#main, h("h1", { class: "visually-hidden" }, text.list.title), this.#list);
      this.#panel = null;
    }
    document.title = context.title;
    this.#list?.show(this.#router.route, this.#router.trail);
    this.#main.classList.toggle("with-panel", id !== "");
    if (!id) {
      this.#panel?.remove();
      this.#panel = null;
    } else if (this.#panel?.memberId !== id) {
      const { MemberPanel } = await import("./member-panel.js");
      if (this.#router.route.id !== id && !this.#session.isOwnOnly) return;
      const panel = new MemberPanel(context, id);
      panel.addEventListener("member", (event) =>
        this.#list?.receive(/** @type {CustomEvent} */ (event).detail),
      );
      panel.addEventListener("leave", () => this.#closePanel());
      if (this.#panel) this.#panel.replaceWith(panel);
      else this.#main.append(panel);
      this.#panel = panel;
    }
  }

  #closePanel() {
    const id = this.#panel?.memberId ?? "";
    this.#router.go(formatRoute("members", "", this.#router.route.query));
    this.#list?.focusMember(Number(id));
  }

  /** Follow a link within the console, and keep the page number of the list. @param {MouseEvent} event */
  #followLink(event) {
    const link = event.target instanceof Element ? event.target.closest("a") : null;
    const hash = link?.getAttribute("href") ?? "";
    const plain = event.button === 0 && !(event.ctrlKey || event.metaKey || event.shiftKey || event.altKey);
    if (!hash.startsWith("#/") || !plain) return;
    event.preventDefault();
    this.#router.go(hash);
  }

  /** @param {Event} event */
  #skip(event) {
    event.preventDefault();
    this.#main.focus();
  }
}

customElements.define("members-app", MembersApp);
