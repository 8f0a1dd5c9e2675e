/** Who is signed in, and what the token allows. The token is in the memory of this tab. */

const STORED = "tornado-members-token";

/** @typedef {import("./api.js").Api} Api */

/** Reports "change" when somebody signs in or out, or renews. */
export class Session extends EventTarget {
  /** @param {Api} api @param {Storage} storage for tokens that outlast a reload */
  constructor(api, storage) {
    super();
    this.api = api;
    this.storage = storage;
    this.subject = "";
    this.issuer = "";
    this.memberId = /** @type {number | null} */ (null);
    this.expires = 0; // milliseconds since the epoch; 0 if the token does not tell
    this.permissions = /** @type {Set<string>} */ (new Set());
    this.isPassword = false;
    this.isKept = false;
  }

  get isSignedIn() {
    return this.api.token !== "";
  }

  /** Who is signed in: a subject is unique only with its issuer. Empty for nobody. */
  get identity() {
    return this.isSignedIn ? JSON.stringify([this.issuer, this.subject]) : "";
  }

  /** Return true if the token grants a permission. @param {string} permission */
  may(permission) {
    return this.permissions.has(`members:${permission}`);
  }

  /** The caller may see its own member only. */
  get isOwnOnly() {
    return !this.may("read") && this.may("read:own") && this.memberId !== null;
  }

  /** Return true if the caller may do this with a member. @param {"read" | "write"} what @param {number} memberId */
  mayMember(what, memberId) {
    return this.may(what) || (this.may(`${what}:own`) && memberId === this.memberId);
  }

  /** Return the minutes that the token is still valid, or null if it does not tell. */
  minutesLeft(now = Date.now()) {
    return this.expires ? Math.max(0, (this.expires - now) / 60_000) : null;
  }

  /** Sign in with a password. Raises Problem. @param {string} username @param {string} password @param {boolean} keep */
  async signIn(username, password, keep) {
    const answer = await this.api.request("POST", "/login", {
      json: { username, password },
      anonymous: true,
    });
    const { access_token: token } = await answer.json();
    await this.#take(token, keep, true);
  }

  /** Sign in with a token. Raises Problem if it is not valid. @param {string} token @param {boolean} keep */
  async useToken(token, keep) {
    await this.#take(token.trim().replace(/^bearer\s+/i, ""), keep, false);
  }

  /** Take up the token that was kept over a reload; false if there is none that is valid. */
  async resume() {
    const kept = this.storage.getItem(STORED);
    if (!kept) return false;
    const { token, isPassword } = JSON.parse(kept);
    try {
      await this.#take(token, true, isPassword);
      return true;
    } catch (error) {
      if (!(error instanceof Error && "status" in error)) throw error;
      this.storage.removeItem(STORED);
      return false;
    }
  }

  signOut() {
    this.storage.removeItem(STORED);
    this.api.token = "";
    this.subject = "";
    this.permissions = new Set();
    this.dispatchEvent(new Event("change"));
  }

  /** @param {string} token @param {boolean} keep @param {boolean} isPassword */
  async #take(token, keep, isPassword) {
    const caller = await (await this.api.request("GET", "/caller", { token })).json();
    this.api.token = token;
    this.subject = caller.subject;
    this.issuer = caller.issuer;
    this.memberId = caller.memberId;
    this.permissions = new Set(caller.permissions);
    this.expires = expiryOf(token);
    this.isPassword = isPassword;
    this.isKept = keep;
    if (keep) this.storage.setItem(STORED, JSON.stringify({ token, isPassword }));
    else this.storage.removeItem(STORED);
    this.dispatchEvent(new Event("change"));
  }
}

/** Return when a JWT expires, in milliseconds since the epoch; 0 if it cannot be read. @param {string} token */
export function expiryOf(token) {
  try {
    const payload = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    const seconds = Number(JSON.parse(atob(payload)).exp);
    return Number.isFinite(seconds) ? seconds * 1000 : 0;
  } catch {
    return 0;
  }
}
