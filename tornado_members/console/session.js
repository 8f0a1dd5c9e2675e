/** The signed-in caller and its permissions. The token is in the memory of this tab. */

const STORAGE_KEY = "tornado-members-token";

/** @typedef {import("./api.js").Api} Api */

/** Dispatches "change" when the user signs in or out, or renews the token. */
export class Session extends EventTarget {
  /** @param {Api} api @param {Storage} storage for tokens that outlast a reload */
  constructor(api, storage) {
    super();
    this.api = api;
    this.storage = storage;
    this.subject = "";
    this.issuer = "";
    this.memberId = /** @type {number | null} */ (null);
    this.expires = 0; // milliseconds since the epoch; 0 if the token does not state it
    this.permissions = /** @type {Set<string>} */ (new Set());
    this.usesPassword = false;
    this.keepsToken = false;
  }

  get isSignedIn() {
    return this.api.token !== "";
  }

  /** The identity of the caller, empty if signed out. A subject is unique only with its issuer. */
  get identity() {
    return this.isSignedIn ? JSON.stringify([this.issuer, this.subject]) : "";
  }

  /** Return true if the token grants a permission. @param {string} permission */
  may(permission) {
    return this.permissions.has(`members:${permission}`);
  }

  /** True if the caller may see its own member only. */
  get isOwnOnly() {
    return !this.may("read") && this.may("read:own") && this.memberId !== null;
  }

  /** Return true if the caller may read or write a member. @param {"read" | "write"} what @param {number} memberId */
  mayAccess(what, memberId) {
    return this.may(what) || (this.may(`${what}:own`) && memberId === this.memberId);
  }

  /** Return the minutes until the token expires, or null if that is unknown. */
  minutesLeft(now = Date.now()) {
    return this.expires ? Math.max(0, (this.expires - now) / 60_000) : null;
  }

  /** Sign in with a password. Throws Problem. @param {string} username @param {string} password @param {boolean} keep */
  async signIn(username, password, keep) {
    const answer = await this.api.request("POST", "/login", {
      json: { username, password },
      anonymous: true,
    });
    const { access_token: token } = await answer.json();
    await this.#accept(token, keep, true);
  }

  /** Sign in with a token. Throws Problem if it is not valid. @param {string} token @param {boolean} keep */
  async useToken(token, keep) {
    await this.#accept(token.trim().replace(/^bearer\s+/i, ""), keep, false);
  }

  /** Use the token that was kept over a reload. Returns false without a valid one. */
  async resume() {
    const kept = this.storage.getItem(STORAGE_KEY);
    if (!kept) return false;
    const { token, usesPassword } = JSON.parse(kept);
    try {
      await this.#accept(token, true, usesPassword);
      return true;
    } catch (error) {
      if (!(error instanceof Error && "status" in error)) throw error;
      this.storage.removeItem(STORAGE_KEY);
      return false;
    }
  }

  signOut() {
    this.storage.removeItem(STORAGE_KEY);
    this.api.token = "";
    this.subject = "";
    this.permissions = new Set();
    this.dispatchEvent(new Event("change"));
  }

  /** @param {string} token @param {boolean} keep @param {boolean} usesPassword */
  async #accept(token, keep, usesPassword) {
    const caller = await (await this.api.request("GET", "/caller", { token })).json();
    this.api.token = token;
    this.subject = caller.subject;
    this.issuer = caller.issuer;
    this.memberId = caller.memberId;
    this.permissions = new Set(caller.permissions);
    this.expires = expiryOf(token);
    this.usesPassword = usesPassword;
    this.keepsToken = keep;
    if (keep) this.storage.setItem(STORAGE_KEY, JSON.stringify({ token, usesPassword }));
    else this.storage.removeItem(STORAGE_KEY);
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
