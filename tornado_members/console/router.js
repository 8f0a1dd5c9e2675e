/**
 * Where the console is, in the fragment of the address: browsers send it to no server, so that
 * names in a search never reach a log.
 *
 *     #/members?q=ada&sort=name         the list
 *     #/members/42?q=ada&sort=name      the list, with a member beside it
 *     #/members/new                     the form for a new member
 *     #/import   #/users   #/status
 */

/** @typedef {{view: string, id: string, query: URLSearchParams}} Place */

/** @param {string} hash @returns {Place} */
export function parsePlace(hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  const [view = "", id = ""] = path.split("/").map(decode);
  return { view: view || "members", id, query: new URLSearchParams(query) };
}

/** @param {string} view @param {string} [id] @param {URLSearchParams} [query] */
export function formatPlace(view, id = "", query = new URLSearchParams()) {
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

/** Reports "change" when the place changes, by a link, the code, or the browser's buttons. */
export class Router extends EventTarget {
  constructor() {
    super();
    this.place = parsePlace(location.hash);
    addEventListener("popstate", () => this.#moved());
  }

  /**
   * Go to a place. The number of the list's page stays, unless the list moves on.
   * @param {string} hash
   * @param {{replace?: boolean, page?: number}} [options]
   */
  go(hash, { replace = false, page } = {}) {
    const stays = parsePlace(hash).query.get("after") === this.place.query.get("after");
    const state = { page: page ?? (stays ? this.page : 1), depth: this.depth + (replace ? 0 : 1) };
    if (replace) history.replaceState(state, "", hash);
    else history.pushState(state, "", hash);
    this.#moved();
  }

  /** The number of the list's page, as far as it is known. */
  get page() {
    return Number(history.state?.page ?? 1);
  }

  /** How many places of this console are behind the browser's back button. */
  get depth() {
    return Number(history.state?.depth ?? 0);
  }

  #moved() {
    this.place = parsePlace(location.hash);
    this.dispatchEvent(new Event("change"));
  }
}
