/** The results of an import: parsed from the response, grouped by reason, and written to a file. */

/** @typedef {{line: number, reason: string, cells: string[]}} Reject */

/** Collects the lines of an import as they arrive. */
export class ImportResults {
  /** Refused rows by reason. @type {Map<string, Reject[]>} */
  reasons = new Map();
  summary = /** @type {Record<string, any> | null} */ (null);
  /** The columns of the file, and the fields read from them. @type {any} */
  file = null;
  /** Why the import ended early. @type {any} */
  failure = null;
  #rest = "";

  /**
   * @param {{taken: string, takenInFile: string, labelOf: (key: string) => string}} labels
   */
  constructor(labels) {
    this.labels = labels;
  }

  /** Parse a piece of the response. @param {string} text */
  push(text) {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop() ?? "";
    for (const line of lines) if (line.trim()) this.#add(JSON.parse(line));
  }

  get isComplete() {
    return this.summary !== null;
  }

  /** Rows by outcome. @returns {Record<string, number>} */
  get counts() {
    const { refused = {}, ...counts } = this.summary ?? {};
    const total = Object.values(refused).reduce((/** @type {number} */ sum, n) => sum + Number(n), 0);
    return { ...counts, refused: total };
  }

  /** The number of members that an import of these rows would write. */
  get writes() {
    return Number(this.counts.created ?? 0) + Number(this.counts.replaced ?? 0);
  }

  /** The refused rows in the order of the file. */
  get rejects() {
    return [...this.reasons.values()].flat().sort((one, other) => one.line - other.line);
  }

  /** @param {any} result */
  #add(result) {
    if (result.summary) {
      this.summary = result.summary;
      this.file = result.file ?? null;
    } else if (result.status >= 400 && (result.errors || result.code === "name-taken")) {
      const reject = { line: result.line, reason: this.#reason(result), cells: result.cells ?? [] };
      const same = this.reasons.get(reject.reason);
      if (same) same.push(reject);
      else this.reasons.set(reject.reason, [reject]);
    } else if (result.status >= 400) {
      this.failure = result;
    }
  }

  /** @param {any} result */
  #reason(result) {
    if (result.code === "name-taken") return result.twice ? this.labels.takenInFile : this.labels.taken;
    const sentences = result.errors.map(
      (/** @type {{pointer: string, detail: string}} */ { pointer, detail }) => {
        const key = pointer.slice(1).replaceAll("/", ".");
        return key ? `${this.labels.labelOf(key)}: ${detail}` : detail;
      },
    );
    return sentences.join("; ");
  }
}

/** Return a CSV file of refused rows, which can be corrected and imported. @param {string[]} header @param {Reject[]} rejects */
export function formatRejects(header, rejects) {
  const rows = [header, ...rejects.map((one) => [String(one.line), one.reason, ...one.cells])];
  return `\ufeff${rows.map((row) => row.map(quoted).join(",")).join("\r\n")}\r\n`;
}

/** @param {string} cell */
function quoted(cell) {
  return /[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell;
}

/** Return the first line numbers, and the number of others, as a short text. @param {number[]} lines @param {number} most */
export function formatLines(lines, most = 8) {
  const shown = lines.slice(0, most).join(", ");
  return lines.length > most ? `${shown} … +${lines.length - most}` : shown;
}

const MEDIA_TYPES = /** @type {Record<string, string>} */ ({
  csv: "text/csv",
  tsv: "text/csv",
  txt: "text/csv",
  ndjson: "application/x-ndjson",
  jsonl: "application/x-ndjson",
  json: "application/json",
  vcf: "text/vcard",
  ldif: "text/x-ldif",
  ldi: "text/x-ldif",
  xlsx: "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
  gz: "application/gzip",
});

/** Return the media type for the extension of a file. The service detects the format from the content. @param {string} name */
export function mediaTypeOf(name) {
  return MEDIA_TYPES[name.split(".").pop()?.toLowerCase() ?? ""] ?? "text/csv";
}

/**
 * Return the probable headings of a text table in which the service found no column for the name.
 * @param {string} text the beginning of the file
 */
export function guessHeader(text) {
  const line =
    text
      .replace(/^\ufeff/, "")
      .split(/\r\n|\n|\r/)
      .find((one) => one.trim()) ?? "";
  const delimiters = [",", ";", "\t", "|"];
  const counts = delimiters.map((one) => line.split(one).length);
  const delimiter = delimiters[counts.indexOf(Math.max(...counts))];
  const cells =
    line.match(new RegExp(`("([^"]|"")*"|[^${delimiter === "|" ? "\\|" : delimiter}])+`, "g")) ?? [];
  return cells
    .map((cell) =>
      cell
        .trim()
        .replace(/^"(.*)"$/s, "$1")
        .replaceAll('""', '"'),
    )
    .slice(0, 200);
}
