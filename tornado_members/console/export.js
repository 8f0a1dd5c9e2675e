/** Exports the members that match the filters as a file. */

import { showDialog } from "./dialog.js";
import { h } from "./dom.js";
import { explain } from "./faults.js";
import { text } from "./text.js";

const FORMATS = /** @type {const} */ ({
  sheet: { type: "text/csv", extension: "csv", query: { bom: "true" } },
  sheetSemicolon: { type: "text/csv", extension: "csv", query: { bom: "true", delimiter: ";" } },
  csv: { type: "text/csv", extension: "csv", query: {} },
  ndjson: { type: "application/x-ndjson", extension: "ndjson", query: {} },
});

/** @param {import("./app.js").Context} context @param {URLSearchParams} query the search and the filters */
export function showExport(context, query) {
  const stop = new AbortController();
  const status = h("p", { role: "status" });
  const button = h("button", { class: "primary" }, text.export.submit);
  const isFiltered = [...query.keys()].some((name) => name !== "sort");
  const submit = async (/** @type {Event} */ event) => {
    event.preventDefault();
    const form = /** @type {HTMLFormElement} */ (event.target);
    const format = FORMATS[/** @type {keyof typeof FORMATS} */ (new FormData(form).get("format"))];
    button.disabled = true;
    try {
      const blob = await receive(context, query, format, stop.signal, (bytes) => {
        status.textContent = text.export.busy(formatSize(bytes));
      });
      save(blob, `members-${new Date().toISOString().slice(0, 10)}.${format.extension}`);
      status.textContent = text.export.done;
    } catch (error) {
      if (!stop.signal.aborted)
        status.textContent = error instanceof TypeError ? text.export.broken : explain(error);
    } finally {
      button.disabled = false;
    }
  };
  const shown = showDialog(text.export.title, () => [
    h(
      "form",
      { onsubmit: submit },
      h("p", {}, isFiltered ? text.export.filtered : text.export.all),
      h(
        "fieldset",
        {},
        h("legend", {}, text.export.format),
        Object.keys(FORMATS).map((name, i) =>
          h(
            "label",
            { class: "check" },
            h("input", { type: "radio", name: "format", value: name, checked: i === 0 }),
            text.export[/** @type {keyof typeof FORMATS} */ (name)],
          ),
        ),
        h("p", { class: "help" }, text.export.sheetHelp),
      ),
      status,
      h("div", { class: "actions" }, button),
    ),
  ]);
  return shown.finally(() => stop.abort());
}

/**
 * @param {import("./app.js").Context} context
 * @param {URLSearchParams} query
 * @param {{type: string, query: Record<string, string>}} format
 * @param {AbortSignal} signal
 * @param {(bytes: number) => void} received
 */
async function receive(context, query, format, signal, received) {
  const parameters = new URLSearchParams([...query, ...Object.entries(format.query)]);
  const answer = await context.api.request("GET", `/members?${parameters}`, {
    headers: { Accept: format.type },
    signal,
  });
  const chunks = [];
  let bytes = 0;
  const reader = /** @type {ReadableStream<Uint8Array<ArrayBuffer>>} */ (answer.body).getReader();
  for (;;) {
    const { value, done } = await reader.read(); // throws TypeError if the stream was cut off
    if (done) return new Blob(chunks, { type: format.type });
    chunks.push(value);
    bytes += value.length;
    received(bytes);
  }
}

/** Offer a file to the browser as a download. @param {Blob} blob @param {string} name */
export function save(blob, name) {
  const url = URL.createObjectURL(blob);
  const link = h("a", { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** @param {number} bytes */
function formatSize(bytes) {
  return bytes < 1_000_000 ? `${Math.ceil(bytes / 1000)} kB` : `${(bytes / 1_000_000).toFixed(1)} MB`;
}
