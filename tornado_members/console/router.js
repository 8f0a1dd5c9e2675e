/**
 * Routes, in the fragment of the URL. Browsers send it to no server, so that names in a search never
 * reach a log.
 *
 *     #/members?q=ada&sort=name         the list
 *     #/members/42?q=ada&sort=name      the list, with a member beside it
 *     #/members/new                     the form for a new member
 *     #/import   #/users   #/status
 */

/** @typedef {{view: string, id: string, query: URLSearchParams}} Route */

/** @param {string} hash @returns {Route} */
export function parseRoute(hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  const [view = "", id = ""] = path.split("/").map(decode);
  return { view: view || "members", id, query: new URLSearchParams(query) };
}

/** @param {string} view @param {string} [id] @param {URLSearchParams} [query] */
export function formatRoute(view, id = "", query = new URLSearchParams()) {
  const path = id ? `#/${view}/${encodeURIComponent(id)}` : `#/${view}`;
  const text = query.toString();
  return text ? `${path}?${text}` : path;
}

/** @param {string} text */
function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Dispatches "change" when the route changes, by a link, by code, or by the browser's buttons. */
export class Router extends EventTarget {
  constructor() {
    super();
    this.route = parseRoute(location.hash);
    addEventListener("popstate", () => this.#navigated());
  }

  /**
   * Go to a route. `trail` are the cursors of the previous pages of the list. By default, they are
   * kept if the page of the list is the same.
   * @param {string} hash
   * @param {{replace?: boolean, trail?: string[]}} [options]
   */
  go(hash, { replace = false, trail } = {}) {
    const stays = parseRoute(hash).query.get("after") === this.route.query.get("after");
    const state = { trail: trail ?? (stays ? this.trail : []) };
    if (replace) history.replaceState(state, "", hash);
    else history.pushState(state, "", hash);
    this.#navigated();
  }

  /** The cursors of the previous pages of the list, as far as they are known. @returns {string[]} */
  get trail() {
    return history.state?.trail ?? [];
  }

  #navigated() {
    this.route = parseRoute(location.hash);
    this.dispatchEvent(new Event("change"));
  }
}
