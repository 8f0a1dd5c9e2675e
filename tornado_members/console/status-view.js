/** `<status-view>`: the dependencies, and charts of the last five minutes. */

import { fill, h, isolated, svg } from "./dom.js";
import { errorState } from "./faults.js";
import { figuresBetween, linePath } from "./figures.js";
import { text } from "./text.js";

/** @typedef {import("./figures.js").Figures} Figures */

const POLL_MS = 2000;
const MAX_SAMPLES = 150; // five minutes

export class StatusView extends HTMLElement {
  #last = /** @type {{at: number, summary: any} | null} */ (null);
  #figures = /** @type {(Figures | null)[]} */ ([]);
  #timer = 0;
  #content = h("div", { class: "status-content" });

  /** @param {import("./app.js").Context} context */
  constructor(context) {
    super();
    this.context = context;
  }

  connectedCallback() {
    fill(this, h("h1", {}, text.status.title), this.#content);
    this.#content.style.display = "contents";
    fill(this.#content, h("p", { class: "loading", role: "status" }, text.status.loading));
    void this.#poll();
  }

  disconnectedCallback() {
    clearTimeout(this.#timer);
  }

  async #poll() {
    clearTimeout(this.#timer);
    try {
      const summary = await this.context.api.get("/status");
      this.#record(summary, performance.now());
      this.#show(summary);
    } catch (error) {
      this.#figures.push(null);
      fill(
        this.#content,
        errorState(error, () => this.#poll()),
      );
    }
    if (this.isConnected) this.#timer = window.setTimeout(() => this.#poll(), POLL_MS);
  }

  /** @param {any} summary @param {number} at */
  #record(summary, at) {
    if (this.#last) {
      this.#figures.push(figuresBetween(this.#last.summary, summary, (at - this.#last.at) / 1000));
      this.#figures = this.#figures.slice(-MAX_SAMPLES);
    }
    this.#last = { at, summary };
  }

  /** @param {any} summary */
  #show(summary) {
    const { states, requests, hits, latency, rate, percent, ms } = text.status;
    fill(
      this.#content,
      h(
        "p",
        { class: `state-${summary.status} dot` },
        states[summary.status] ?? summary.status,
        h("span", { class: "help" }, ` · ${text.status.workers(summary.workers)}`),
      ),
      h(
        "section",
        { class: "charts", "aria-label": text.status.figures },
        this.#chart(requests, (one) => one.rate, rate, null),
        this.#chart(hits, (one) => one.hits, percent, 1),
        this.#chart(latency, (one) => one.latency, ms, null),
      ),
      h(
        "section",
        { class: "card" },
        h("h2", {}, text.status.dependencies),
        this.#dependencies(summary.dependencies),
      ),
    );
  }

  /**
   * @param {string} title
   * @param {(figures: Figures) => number | null} pick
   * @param {(value: number) => string} format
   * @param {number | null} top the value at the upper edge; null scales the chart to the data
   */
  #chart(title, pick, format, top) {
    const values = this.#figures.map((one) => (one ? pick(one) : null));
    const known = values.filter((one) => one !== null);
    const last = known[known.length - 1];
    const highest = Math.max(...known, 0);
    const path = linePath(values, MAX_SAMPLES, top ?? highest * 1.1);
    const range = known.length
      ? text.status.between(format(Math.min(...known)), format(highest))
      : text.status.noValue;
    return h(
      "figure",
      { class: "card chart" },
      h("figcaption", {}, title),
      h("strong", {}, last === undefined ? "–" : format(last)),
      svg(
        "svg",
        {
          viewBox: "0 0 100 40",
          preserveAspectRatio: "none",
          role: "img",
          "aria-label": `${title}: ${range}`,
        },
        svg("path", { class: "line", d: path }),
      ),
      h("span", { class: "help" }, range),
    );
  }

  /** @param {{name: string, state: string, detail: string}[]} dependencies */
  #dependencies(dependencies) {
    const { dependency, state, detail, states } = text.status;
    const head = h(
      "tr",
      {},
      [dependency, state, detail].map((title) => h("th", { scope: "col" }, title)),
    );
    const rows = dependencies.map((one) =>
      h(
        "tr",
        {},
        h("th", { scope: "row", class: "wrap" }, isolated(one.name)),
        h("td", { class: `state-${one.state}` }, h("span", { class: "dot" }, states[one.state] ?? one.state)),
        h("td", { class: "wrap" }, isolated(one.detail)),
      ),
    );
    return h("div", { class: "scroll" }, h("table", {}, h("thead", {}, head), h("tbody", {}, rows)));
  }
}

customElements.define("status-view", StatusView);
