/** The public API of the service: requests, problems, and the state of the connection. */

/** A response with an error status, as a problem (RFC 9457). */
export class Problem extends Error {
  /** @param {number} status @param {any} body @param {Headers} headers */
  constructor(status, body, headers) {
    super(String(body?.detail ?? `HTTP ${status}`));
    this.status = status;
    this.code = String(body?.code ?? "");
    /** @type {{pointer: string, detail: string}[]} */
    this.errors = Array.isArray(body?.errors) ? body.errors : [];
    this.member = typeof body?.member === "string" ? body.member : "";
    this.requestId = String(body?.requestId ?? headers.get("X-Request-Id") ?? "");
    this.retryAfter = Number(headers.get("Retry-After") ?? 0);
    /** The whole problem object. @type {any} */
    this.body = body;
  }
}

/** The service did not respond. It is unknown whether it received the request. */
export class Unreachable extends Error {}

/** True if an operation was cancelled. @param {unknown} error */
export function isAbort(error) {
  return error instanceof DOMException && error.name === "AbortError";
}

/**
 * @typedef {object} Options
 * @property {Record<string, string>} [headers]
 * @property {unknown} [json] the body
 * @property {AbortSignal} [signal]
 * @property {boolean} [anonymous] without a token
 * @property {boolean} [quiet] do not renew the token if it is refused
 * @property {string} [token] instead of the token of the session
 */

/** Sends requests. Dispatches "offline" and "online" when the service becomes unreachable or reachable. */
export class Api extends EventTarget {
  /** @param {string} base the address of the API, which ends in a slash */
  constructor(base) {
    super();
    this.base = base;
    this.online = true;
    this.token = "";
    /** Called when the token is refused. Resolves to true if there is a new token. */
    this.renew = async () => false;
    this.#wait = 1000;
  }

  /** @type {number} */ #wait;
  #probing = false;

  /** Return the URL of a path of the API. @param {string} path */
  url(path) {
    return new URL(path.replace(/^\//, ""), this.base).href;
  }

  /** Return the URL of the page that a list names in `next`. @param {string} next */
  nextUrl(next) {
    return new URL(next, this.base).href;
  }

  /**
   * Send a request and return its successful response.
   *
   * Throws Problem, Unreachable, or AbortError. If the token has expired, the request is repeated
   * after the user has signed in again.
   * @param {string} method
   * @param {string} path a path of the API, or a URL
   * @param {Options} [options]
   * @returns {Promise<Response>}
   */
  async request(method, path, options = {}) {
    const token = options.token ?? this.token;
    const response = await this.#send(method, path, options, token);
    if (response.ok || response.status === 304) return response;
    const problem = new Problem(response.status, await parseBody(response), response.headers);
    const isStale =
      problem.status === 401 && !options.anonymous && !options.quiet && options.token === undefined;
    if (isStale && (this.token !== token || (await this.renew()))) {
      return this.request(method, path, options);
    }
    throw problem;
  }

  /** Send a request and return the JSON of its response. @param {string} path @param {Options} [options] */
  async get(path, options) {
    return (await this.request("GET", path, options)).json();
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {Options} options
   * @param {string} token
   */
  async #send(method, path, options, token) {
    const headers = new Headers(options.headers);
    if (token && !options.anonymous) headers.set("Authorization", `Bearer ${token}`);
    let body;
    if (options.json !== undefined) {
      body = JSON.stringify(options.json);
      if (!headers.has("Content-Type")) headers.set("Content-Type", "application/json");
    }
    const url = path.startsWith("http") ? path : this.url(path);
    try {
      const response = await fetch(url, {
        method,
        headers,
        body,
        signal: options.signal,
        credentials: "omit",
        referrerPolicy: "no-referrer",
        cache: method === "GET" ? "no-cache" : "no-store",
      });
      this.#setOnline(true);
      return response;
    } catch (error) {
      if (isAbort(error)) throw error;
      this.#setOnline(false);
      throw new Unreachable();
    }
  }

  /** @param {boolean} online */
  #setOnline(online) {
    if (online === this.online) return;
    this.online = online;
    this.dispatchEvent(new Event(online ? "online" : "offline"));
    if (!online) this.probe();
  }

  /** Send probes until the service responds. */
  async probe() {
    if (this.#probing) return;
    this.#probing = true;
    this.#wait = 500;
    while (!this.online) {
      await new Promise((resolve) => setTimeout(resolve, this.#wait));
      this.#wait = Math.min(this.#wait * 1.6, 10_000);
      try {
        await this.#send("HEAD", "/openapi.json", { anonymous: true }, "");
      } catch {
        // The service is still unreachable.
      }
    }
    this.#probing = false;
  }
}

/** @param {Response} response */
async function parseBody(response) {
  try {
    return await response.json();
  } catch {
    return null; // an error page of a proxy
  }
}
