/** Explains errors to people. */

import { Problem, Unreachable } from "./api.js";
import { h } from "./dom.js";
import { text } from "./text.js";

/** Return what an error means, in a sentence. @param {unknown} error */
export function explain(error) {
  if (error instanceof Unreachable) return text.errors.offline;
  if (!(error instanceof Problem)) return error instanceof Error ? error.message : String(error);
  if (error.status === 503) return text.errors.busy;
  return error.message;
}

/**
 * Return a state of a view: what happened, and what to do.
 * @param {string} title
 * @param {string} help
 * @param {...import("./dom.js").Child} actions
 */
export function stateOf(title, help, ...actions) {
  return h(
    "div",
    { class: "state" },
    h("h2", {}, title),
    h("p", {}, help),
    actions.length ? h("div", { class: "actions" }, actions) : null,
  );
}

/** Return the state of a view whose data could not be read. @param {unknown} error @param {() => unknown} retry */
export function errorState(error, retry) {
  const button = h("button", { type: "button", onclick: retry }, text.retry);
  if (error instanceof Unreachable) return stateOf(text.errors.offline, text.errors.offlineHelp, button);
  if (error instanceof Problem && error.status === 403) {
    return stateOf(text.errors.forbidden, text.errors.forbiddenHelp);
  }
  const state = stateOf(text.errors.title, explain(error), button);
  if (error instanceof Problem && error.requestId) {
    state.append(h("p", { class: "help" }, text.errors.request(error.requestId)));
  }
  return state;
}

/**
 * Show each fault of a problem beside its input; return those that belong to no input.
 * @param {Problem} problem
 * @param {import("./fields.js").FieldInput[]} inputs
 */
export function placeFaults(problem, inputs) {
  const homeless = [];
  for (const { pointer, detail } of problem.errors) {
    const input = inputs.find(
      ({ field }) => pointer === field.pointer || pointer.startsWith(`${field.pointer}/`),
    );
    const sentence = `${detail.charAt(0).toUpperCase()}${detail.slice(1)}${/[.!?]$/.test(detail) ? "" : "."}`;
    if (input) input.setFault(sentence);
    else homeless.push(`${pointer.slice(1)}: ${detail}`);
  }
  return homeless;
}
