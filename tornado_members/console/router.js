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
   * Go to a place. `trail` are the cursors of the pages before that of the list; they stay as they
   * are while the page does.
   * @param {string} hash
   * @param {{replace?: boolean, trail?: string[]}} [options]
   */
  go(hash, { replace = false, trail } = {}) {
    const stays = parsePlace(hash).query.get("after") === this.place.query.get("after");
    const state = { trail: trail ?? (stays ? this.trail : []) };
    if (replace) history.replaceState(state, "", hash);
    else history.pushState(state, "", hash);
    this.#moved();
  }

  /** The cursors of the pages before that of the list, as far as they are known. @returns {string[]} */
  get trail() {
    return history.state?.trail ?? [];
  }

  #moved() {
    this.place = parsePlace(location.hash);
    this.dispatchEvent(new Event("change"));
  }
}
