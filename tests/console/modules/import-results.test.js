import assert from "node:assert/strict";
import { test } from "node:test";

import {
  formatLines,
  formatRejects,
  guessHeader,
  ImportResults,
  mediaTypeOf,
} from "../../../tornado_members/console/import-results.js";

const LINES = [
  { line: 3, status: 409, code: "name-taken", member: "/members/1", cells: ["Ada", "x"] },
  {
    line: 2,
    status: 422,
    code: "invalid-member",
    errors: [{ pointer: "/email", detail: "is bad" }],
    cells: ['a "q"', "b\nc"],
  },
  { line: 4, status: 409, code: "name-taken", twice: true, cells: ["=1+1"] },
  {
    line: 5,
    status: 422,
    code: "invalid-member",
    errors: [{ pointer: "", detail: "has 3 cells" }],
    cells: [],
  },
  {
    summary: { created: 5, replaced: 2, refused: { "name-taken": 2, "invalid-member": 2 } },
    file: { rejectsHeader: ["line", "reason", "name"] },
  },
];
const labels = { taken: "taken", takenInFile: "twice", labelOf: (key) => key.toUpperCase() };

test("ImportResults counts by reason, however the response is cut", () => {
  const text = LINES.map((line) => `${JSON.stringify(line)}\n`).join("");
  for (const size of [1, 7, 64, text.length]) {
    const results = new ImportResults(labels);
    for (let i = 0; i < text.length; i += size) results.push(text.slice(i, i + size));
    assert.deepEqual(
      [...results.reasons].map(([reason, rows]) => [reason, rows.length]),
      [
        ["taken", 1],
        ["EMAIL: is bad", 1],
        ["twice", 1],
        ["has 3 cells", 1],
      ],
    );
    assert.deepEqual(results.counts, { created: 5, replaced: 2, refused: 4 });
    assert.equal(results.writes, 7);
    assert.deepEqual(
      results.rejects.map((one) => one.line),
      [2, 3, 4, 5],
    );
  }
});

test("ImportResults of a response that ended early are not complete", () => {
  const results = new ImportResults(labels);
  results.push('{"line": 9, "status": 503, "code": "dependency-unavailable"}\n{"summ');
  assert.equal(results.isComplete, false);
  assert.equal(results.failure.code, "dependency-unavailable");
});

test("formatRejects quotes cells and marks its encoding", () => {
  const rejects = [{ line: 2, reason: "bad, very", cells: ['a "q"', "b\nc", "'=1"] }];
  assert.equal(
    formatRejects(["line", "reason", "n"], rejects),
    '\ufeffline,reason,n\r\n2,"bad, very","a ""q""","b\nc",\'=1\r\n',
  );
});

test("names, lines and headers are recognised", () => {
  assert.equal(mediaTypeOf("Club.XLSX"), "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet");
  assert.equal(mediaTypeOf("members"), "text/csv");
  assert.equal(formatLines([1, 2, 3], 2), "1, 2 … +1");
  assert.deepEqual(guessHeader('\ufeff\n"Full; name";Mail\nAda;x'), ["Full; name", "Mail"]);
  assert.deepEqual(guessHeader("a|b|c"), ["a", "b", "c"]);
});
