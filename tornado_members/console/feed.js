/** The change feed (`GET /members/changes`): changes of members as they happen. */

import { Problem } from "./api.js";

/** @typedef {{id: string, event: string, data: any}} FeedEvent */

/** Parses server-sent events from pieces of text (HTML Standard §9.2.6). */
export class EventParser {
  #rest = "";
  #event = "";
  #data = /** @type {string[]} */ ([]);
  #id = "";

  /** Return the events that a piece of text completes. @param {string} text @returns {FeedEvent[]} */
  push(text) {
    const lines = (this.#rest + text).split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop() ?? "";
    return lines.flatMap((line) => this.#line(line));
  }

  /** @param {string} line @returns {FeedEvent[]} */
  #line(line) {
    if (line === "") return this.#dispatch();
    const [name, value = ""] = line.split(/: ?(.*)/s, 2);
    if (name === "data") this.#data.push(value);
    else if (name === "event") this.#event = value;
    else if (name === "id") this.#id = value;
    return [];
  }

  /** @returns {FeedEvent[]} */
  #dispatch() {
    const text = this.#data.join("\n");
    const found = { id: this.#id, event: this.#event || "message", data: parse(text) };
    this.#event = "";
    this.#data = [];
    return text ? [found] : [];
  }
}

/** @param {string} text */
function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/**
 * Follows the feed, and resumes it after a broken connection.
 *
 * Dispatches "change" (a CustomEvent whose detail is a FeedEvent), "live" and "lost" when the
 * connection is established and lost, and "gap" if changes were missed, so that views must reload.
 */
export class Feed extends EventTarget {
  #stop = /** @type {AbortController | null} */ (null);
  #lastEventId = "";

  /** @param {import("./api.js").Api} api */
  constructor(api) {
    super();
    this.api = api;
    this.isLive = false;
  }

  start() {
    if (this.#stop) return;
    this.#stop = new AbortController();
    void this.#follow(this.#stop.signal);
  }

  stop() {
    this.#stop?.abort();
    this.#stop = null;
    this.#lastEventId = "";
    this.#setLive(false);
  }

  /** @param {AbortSignal} signal */
  async #follow(signal) {
    let pause = 500;
    while (!signal.aborted) {
      try {
        await this.#read(signal, () => {
          pause = 500;
        });
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof Problem && error.status === 410) {
          this.#lastEventId = "";
          this.dispatchEvent(new Event("gap"));
        } else if (error instanceof Problem && error.status < 500 && error.status !== 429) {
          // Without a replica set there is no feed. With an expired token, it starts again later.
          this.#stop = null;
          this.#setLive(false);
          return;
        }
      }
      this.#setLive(false);
      await new Promise((resolve) => setTimeout(resolve, pause * (0.75 + Math.random() / 2)));
      pause = Math.min(pause * 2, 15_000);
    }
  }

  /** @param {AbortSignal} signal @param {() => void} connected */
  async #read(signal, connected) {
    /** @type {Record<string, string>} */
    const headers = { Accept: "text/event-stream" };
    if (this.#lastEventId) headers["Last-Event-ID"] = this.#lastEventId;
    const response = await this.api.request("GET", "/members/changes", { headers, signal, quiet: true });
    if (!response.body) return;
    connected();
    this.#setLive(true);
    const parser = new EventParser();
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { value, done } = await reader.read();
      if (done || signal.aborted) return;
      for (const event of parser.push(value)) this.#handle(event);
    }
  }

  /** @param {FeedEvent} event */
  #handle(event) {
    if (event.id) this.#lastEventId = event.id;
    if (["created", "changed", "deleted"].includes(event.event)) {
      this.dispatchEvent(new CustomEvent("change", { detail: event }));
    }
  }

  /** @param {boolean} live */
  #setLive(live) {
    if (live === this.isLive) return;
    this.isLive = live;
    this.dispatchEvent(new Event(live ? "live" : "lost"));
  }
}
