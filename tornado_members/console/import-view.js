/** `<import-view>`: chooses a file, previews its import, and imports it. */

import { isAbort, Problem } from "./api.js";
import { fill, h, icon, isolated, uniqueId } from "./dom.js";
import { save } from "./export.js";
import { errorState, explain } from "./faults.js";
import { formatLines, formatRejects, guessHeader, ImportResults, mediaTypeOf } from "./import-results.js";
import { formatNumber, labelOf, text } from "./text.js";
import { upload } from "./upload.js";

const OUTCOMES = ["created", "replaced", "unchanged", "skipped", "refused"];
const POLICIES = /** @type {const} */ (["reject", "skip", "replace"]);
const MAX_REASONS = 50;

export class ImportView extends HTMLElement {
  #file = /** @type {File | null} */ (null);
  #columns = /** @type {Map<string, string>} */ (new Map()); // chosen headings by field
  #policy = "reject";
  #stop = new AbortController();
  #content = h("div", { class: "import-content" });

  /** @param {import("./app.js").Context} context */
  constructor(context) {
    super();
    this.context = context;
  }

  connectedCallback() {
    fill(
      this,
      h("div", {}, h("h1", {}, text.import.title), h("p", { class: "lead" }, text.import.lead)),
      this.#content,
    );
    this.#content.style.display = "contents";
    this.#chooseFile();
  }

  disconnectedCallback() {
    this.#stop.abort();
  }

  /** Show the file chooser. */
  #chooseFile() {
    const id = uniqueId("file");
    const input = h("input", { type: "file", id, class: "visually-hidden" });
    input.addEventListener("change", () => input.files?.[0] && this.#open(input.files[0]));
    const zone = h(
      "div",
      { class: "drop" },
      icon("file"),
      h("p", {}, text.import.drop),
      h("label", { for: id, class: "button primary" }, text.import.choose),
      input,
    );
    zone.addEventListener("dragover", (event) => {
      event.preventDefault();
      zone.classList.add("over");
    });
    zone.addEventListener("dragleave", () => zone.classList.remove("over"));
    zone.addEventListener("drop", (event) => {
      event.preventDefault();
      zone.classList.remove("over");
      const file = event.dataTransfer?.files[0];
      if (file) void this.#open(file);
    });
    fill(this.#content, zone);
  }

  /** @param {File} file */
  async #open(file) {
    this.#file = file;
    this.#columns = new Map();
    await this.#run(true);
  }

  /** Send the file, for a dry run or for the import. @param {boolean} isDry */
  async #run(isDry) {
    const file = /** @type {File} */ (this.#file);
    this.#stop = new AbortController();
    const bar = h("progress", { max: 1, value: 0, "aria-label": text.import.progress });
    const status = isDry ? text.import.reading : text.import.writing;
    fill(
      this.#content,
      h(
        "div",
        { class: "card" },
        this.#fileName(),
        h("p", { role: "status" }, status),
        bar,
        h(
          "div",
          { class: "actions" },
          h("button", { type: "button", onclick: () => this.#stop.abort() }, text.import.stop),
        ),
      ),
    );
    const results = new ImportResults({
      taken: text.import.taken,
      takenInFile: text.import.takenInFile,
      labelOf,
    });
    try {
      await this.#ensureToken();
      await upload(this.context.api, file, this.#parameters(isDry), mediaTypeOf(file.name), {
        progress: (share) => {
          bar.value = share;
        },
        text: (piece) => results.push(piece),
        signal: this.#stop.signal,
      });
      this.#show(results, isDry);
    } catch (error) {
      await this.#fail(error, isDry);
    }
  }

  /** Renew an expired token first: an upload in progress cannot be repeated with another token. */
  async #ensureToken() {
    await this.context.api.request("HEAD", "/caller");
  }

  /** @param {boolean} isDry */
  #parameters(isDry) {
    const parameters = new URLSearchParams({
      results: this.context.schema.rejects ? "rejects,after" : "failures",
      on_conflict: this.#policy,
    });
    if (isDry) parameters.set("dry_run", "true");
    for (const [field, heading] of this.#columns)
      if (heading) parameters.append("column", `${field}=${heading}`);
    return parameters;
  }

  #fileName() {
    return h("p", {}, h("strong", {}, isolated(this.#file?.name ?? "")));
  }

  #otherFile() {
    return h("button", { type: "button", onclick: () => this.#chooseFile() }, text.import.other);
  }

  /** @param {unknown} error @param {boolean} isDry */
  async #fail(error, isDry) {
    if (isAbort(error)) {
      this.#chooseFile();
      if (!isDry) this.context.notices.show(text.import.stopped);
    } else if (error instanceof Problem && error.code === "unreadable-file") {
      const header = guessHeader(await /** @type {File} */ (this.#file).slice(0, 65536).text());
      fill(
        this.#content,
        h(
          "section",
          { class: "card" },
          this.#fileName(),
          h("h2", {}, text.import.unreadable),
          h("p", {}, explain(error)),
          this.#mapping({ header, columns: {} }),
          h("div", { class: "actions" }, this.#checkButton(), this.#otherFile()),
        ),
      );
    } else {
      fill(
        this.#content,
        errorState(error, () => this.#run(isDry)),
        h("div", { class: "actions" }, this.#otherFile()),
      );
    }
  }

  /** @param {ImportResults} results @param {boolean} isDry */
  #show(results, isDry) {
    const file = results.file ?? { header: [], columns: {} };
    const heading = h("h2", { tabindex: "-1" }, isDry ? text.import.wouldTitle : text.import.didTitle);
    fill(
      this.#content,
      h(
        "section",
        { class: "card" },
        this.#fileName(),
        heading,
        results.isComplete
          ? null
          : h(
              "div",
              { class: "fault" },
              text.import.incomplete,
              results.failure?.detail && ` ${results.failure.detail}`,
            ),
        this.#outcomes(results),
        isDry
          ? this.#decision(results)
          : h(
              "div",
              { class: "actions" },
              h("a", { class: "button primary", href: "#/members" }, text.import.done),
              this.#otherFile(),
            ),
      ),
      results.reasons.size ? this.#reasons(results) : null,
      isDry && file.header?.length
        ? h(
            "section",
            { class: "card" },
            h("h2", {}, text.import.columns),
            this.#mapping(file),
            file.ignored?.length
              ? h(
                  "p",
                  { class: "help" },
                  `${text.import.ignored}: `,
                  isolated(file.ignored.slice(0, 30).join(", ")),
                )
              : null,
            h("div", { class: "actions" }, this.#checkButton()),
          )
        : null,
    );
    heading.focus();
  }

  /** @param {ImportResults} results */
  #outcomes({ counts }) {
    const shown = OUTCOMES.filter((name) => counts[name] || name === "created" || name === "refused");
    return h(
      "dl",
      { class: "outcomes" },
      shown.map((name) =>
        h(
          "div",
          { class: name === "refused" && counts[name] ? "refused" : "" },
          h("dt", {}, text.import.outcomes[name]),
          h("dd", {}, formatNumber(counts[name] ?? 0)),
        ),
      ),
    );
  }

  /** @param {ImportResults} results */
  #decision(results) {
    const name = uniqueId("policy");
    const choose = (/** @type {string} */ policy) => {
      this.#policy = policy;
      void this.#run(true);
    };
    const policies = POLICIES.map((policy) =>
      h(
        "label",
        { class: "check" },
        h("input", {
          type: "radio",
          name,
          value: policy,
          checked: policy === this.#policy,
          onchange: () => choose(policy),
        }),
        text.import.policies[policy],
      ),
    );
    const { writes } = results;
    return [
      h("fieldset", {}, h("legend", {}, text.import.conflicts), policies),
      h(
        "div",
        { class: "actions" },
        h(
          "button",
          { type: "button", class: "primary", disabled: writes === 0, onclick: () => this.#run(false) },
          writes ? text.import.run(writes) : text.import.nothingToDo,
        ),
        this.#otherFile(),
      ),
    ];
  }

  /** @param {ImportResults} results */
  #reasons(results) {
    const all = [...results.reasons].sort((one, other) => other[1].length - one[1].length);
    const rows = all
      .slice(0, MAX_REASONS)
      .map(([reason, rejects]) =>
        h(
          "tr",
          {},
          h(
            "th",
            { scope: "row", class: "wrap" },
            isolated(reason),
            h(
              "div",
              { class: "help" },
              text.import.lines(rejects.length, formatLines(rejects.map((one) => one.line))),
            ),
          ),
          h("td", { class: "number" }, formatNumber(rejects.length)),
        ),
      );
    const header = results.file?.rejectsHeader;
    const saveRejects = () => {
      const blob = new Blob([formatRejects(header, results.rejects)], { type: "text/csv" });
      save(blob, `${(this.#file?.name ?? "members").replace(/\.[^.]*$/, "")}-refused.csv`);
    };
    return h(
      "section",
      { class: "card" },
      h("h2", {}, text.import.reasons),
      h(
        "table",
        {},
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            h("th", { scope: "col" }, text.import.reason),
            h("th", { scope: "col", class: "number" }, text.import.rows),
          ),
        ),
        h("tbody", {}, rows),
      ),
      header &&
        h(
          "div",
          { class: "actions" },
          h("button", { type: "button", onclick: saveRejects }, text.import.rejects),
          h("span", { class: "help" }, text.import.rejectsHelp),
        ),
    );
  }

  /** Return one select of a column for each field. @param {{header: string[], columns: Record<string, string[]>}} file */
  #mapping(file) {
    return h(
      "div",
      { class: "mapping" },
      this.context.schema.fields.map((field) => this.#column(field.key, field.label, file)),
    );
  }

  /** @param {string} key @param {string} label @param {{header: string[], columns: Record<string, string[]>}} file */
  #column(key, label, file) {
    const id = uniqueId("column");
    const found = file.columns[key];
    const automatic = found ? found.join(" + ") : text.import.notRead;
    const select = h(
      "select",
      { id },
      h("option", { value: "" }, this.#columns.get(key) ? text.import.automatic : automatic),
      file.header.map((heading, i) => h("option", { value: `#${i + 1}` }, heading || `#${i + 1}`)),
    );
    select.value = this.#columns.get(key) ?? "";
    select.addEventListener("change", () => this.#columns.set(key, select.value));
    return h("div", { class: "field" }, h("label", { for: id }, label), select);
  }

  #checkButton() {
    return h("button", { type: "button", onclick: () => this.#run(true) }, text.import.check);
  }
}

customElements.define("import-view", ImportView);
