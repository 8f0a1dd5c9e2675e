/** Shows errors to users. */

import { Problem, Unreachable } from "./api.js";
import { h } from "./dom.js";
import { text } from "./text.js";

/** Return one sentence that explains an error. @param {unknown} error */
export function explain(error) {
  if (error instanceof Unreachable) return text.errors.offline;
  if (!(error instanceof Problem)) return error instanceof Error ? error.message : String(error);
  if (error.status === 503) return text.errors.busy;
  return error.message;
}

/**
 * Return the content of a view that has nothing to show: what happened, and what to do.
 * @param {string} title
 * @param {string} help
 * @param {...import("./dom.js").Child} actions
 */
export function emptyState(title, help, ...actions) {
  return h(
    "div",
    { class: "state" },
    h("h2", {}, title),
    h("p", {}, help),
    actions.length ? h("div", { class: "actions" }, actions) : null,
  );
}

/** Return the content of a view whose data could not be read. @param {unknown} error @param {() => unknown} retry */
export function errorState(error, retry) {
  const button = h("button", { type: "button", onclick: retry }, text.retry);
  if (error instanceof Unreachable) return emptyState(text.errors.offline, text.errors.offlineHelp, button);
  if (error instanceof Problem && error.status === 403) {
    return emptyState(text.errors.forbidden, text.errors.forbiddenHelp);
  }
  const state = emptyState(text.errors.title, explain(error), button);
  if (error instanceof Problem && error.requestId) {
    state.append(h("p", { class: "help" }, text.errors.request(error.requestId)));
  }
  return state;
}

/**
 * Show each fault of a problem beside its input. Returns the faults that belong to no input.
 * @param {Problem} problem
 * @param {import("./fields.js").FieldInput[]} inputs
 */
export function showFaults(problem, inputs) {
  const unmatched = [];
  for (const { pointer, detail } of problem.errors) {
    const input = inputs.find(
      ({ field }) => pointer === field.pointer || pointer.startsWith(`${field.pointer}/`),
    );
    const sentence = `${detail.charAt(0).toUpperCase()}${detail.slice(1)}${/[.!?]$/.test(detail) ? "" : "."}`;
    if (input) input.setFault(sentence);
    else unmatched.push(`${pointer.slice(1)}: ${detail}`);
  }
  return unmatched;
}
