/** The form of a member. Each fault is shown beside its field. */

import { isAbort, Problem, Unreachable } from "./api.js";
import { confirm } from "./dialog.js";
import { fill, h } from "./dom.js";
import { explain, showFaults } from "./faults.js";
import { FieldInput } from "./fields.js";
import { formatRoute } from "./router.js";
import { assemble, valueOf } from "./schema.js";
import { text } from "./text.js";

export class MemberForm {
  /** Saves the values. Throws Problem and Unreachable. */
  save = async () => {};
  cancel = () => {};
  #summary = h("div", { class: "fault", role: "alert", tabindex: "-1", hidden: true });

  /**
   * @param {import("./app.js").Context} context
   * @param {any} member
   * @param {{title: string, submit: string, busy: string}} labels
   */
  constructor(context, member, labels) {
    const isNew = !("memberId" in member);
    this.labels = labels;
    this.inputs = context.schema.fields.map(
      (field) => new FieldInput(field, valueOf(member, field) ?? (isNew ? field.default : null)),
    );
    this.button = h("button", { class: "primary" }, labels.submit);
    const attributeInputs = this.inputs.filter((input) => input.field.path.length > 1);
    this.element = h(
      "form",
      {
        class: "member-form",
        novalidate: true,
        onsubmit: (/** @type {Event} */ event) => this.#submit(event),
      },
      h("h2", { dir: "auto" }, labels.title),
      this.#summary,
      this.inputs.filter((input) => input.field.path.length === 1).map((input) => input.element),
      attributeInputs.length
        ? h(
            "fieldset",
            {},
            h("legend", {}, text.member.attributes),
            attributeInputs.map((input) => input.element),
          )
        : null,
      h(
        "div",
        { class: "actions" },
        this.button,
        h("button", { type: "button", onclick: () => this.cancel() }, text.cancel),
      ),
    );
  }

  get isDirty() {
    return this.inputs.some((input) => input.isDirty);
  }

  /** Return the member that was entered. */
  values() {
    return assemble(this.inputs.map((input) => [input.field, input.value]));
  }

  focus() {
    this.inputs[0]?.control.focus();
  }

  confirmDiscard() {
    const { discard, discardHelp, discardYes, discardNo } = text.form;
    return confirm(discard, discardHelp, discardYes, discardNo);
  }

  /** @param {Event} event */
  async #submit(event) {
    event.preventDefault();
    if (this.button.disabled) return;
    for (const input of this.inputs) input.clearFault();
    this.#summary.hidden = true;
    this.button.disabled = true;
    this.button.textContent = this.labels.busy;
    try {
      await this.save();
    } catch (error) {
      if (!isAbort(error)) this.#show(error);
    } finally {
      this.button.disabled = false;
      this.button.textContent = this.labels.submit;
    }
  }

  /** @param {unknown} error */
  #show(error) {
    if (error instanceof Unreachable) {
      this.#summarize(text.form.lost);
    } else if (error instanceof Problem && error.code === "name-taken") {
      this.#showTaken(error);
    } else if (error instanceof Problem && error.errors.length) {
      const unmatched = showFaults(error, this.inputs);
      this.#summarize(text.form.faults(error.errors.length), unmatched);
      this.inputs.find((input) => !input.fault.hidden)?.control.focus();
    } else {
      this.#summarize(`${text.form.failed} ${explain(error)}`);
    }
  }

  /** @param {Problem} problem */
  #showTaken(problem) {
    const name = this.inputs.find((input) => input.field.key === "name");
    const id = problem.member.split("/").pop() ?? "";
    const link = id && h("a", { href: formatRoute("members", id), target: "_blank" }, text.form.takenLink);
    name?.setFault(h("span", {}, text.form.taken, " ", link));
    name?.control.focus();
  }

  /** @param {string} message @param {string[]} [details] */
  #summarize(message, details = []) {
    fill(
      this.#summary,
      h("p", {}, message),
      details.length
        ? h(
            "ul",
            {},
            details.map((one) => h("li", {}, one)),
          )
        : null,
    );
    this.#summary.hidden = false;
    this.#summary.focus();
  }
}
