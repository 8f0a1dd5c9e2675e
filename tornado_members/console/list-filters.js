/** The filters of the list: one input for each query parameter that compares a value. */

import { fill, h, uniqueId } from "./dom.js";
import { filterLabel } from "./fields.js";
import { text } from "./text.js";

export class ListFilters {
  #inputs = /** @type {Map<string, HTMLInputElement | HTMLSelectElement>} */ (new Map());

  /**
   * @param {import("./schema.js").Schema} schema
   * @param {(values: Record<string, string>) => void} apply
   */
  constructor(schema, apply) {
    this.names = schema.filters.filter((name) => schema.search || name !== "name_prefix");
    this.apply = apply;
    this.form = h("form", {
      class: "filters",
      id: uniqueId("filters"),
      hidden: true,
      onsubmit: (/** @type {Event} */ event) => this.#submit(event),
    });
    this.button = h(
      "button",
      {
        type: "button",
        "aria-expanded": "false",
        "aria-controls": this.form.id,
        onclick: () => this.#toggle(),
      },
      text.list.filters,
    );
    const fields = this.names.map((name) => this.#field(name, schema));
    fill(
      this.form,
      fields,
      h(
        "div",
        { class: "actions" },
        h("button", { class: "primary" }, text.list.apply),
        h("button", { type: "button", onclick: () => this.#clear() }, text.list.clear),
      ),
    );
    this.button.hidden = this.names.length === 0;
  }

  /** Show the filters of a route. @param {URLSearchParams} query */
  show(query) {
    let active = 0;
    for (const [name, input] of this.#inputs) {
      const value = query.get(name) ?? "";
      if (!this.form.contains(document.activeElement)) input.value = value;
      if (value) active += 1;
    }
    this.button.textContent = active ? text.list.filtersActive(active) : text.list.filters;
  }

  /** @param {string} name @param {import("./schema.js").Schema} schema */
  #field(name, schema) {
    const field = schema.fields.find((one) => one.key === name);
    const id = uniqueId("filter");
    const choices = field?.type === "boolean" ? ["true", "false"] : field?.choices;
    const types = { integer: "number", number: "number", date: "date" };
    const type = types[/** @type {"integer"} */ (field?.type)] ?? "text";
    const input = choices
      ? h(
          "select",
          { id },
          h("option", { value: "" }, text.list.any),
          choices.map((one) => h("option", { value: one }, one)),
        )
      : h("input", { id, type, autocomplete: "off", spellcheck: "false", dir: "auto" });
    this.#inputs.set(name, input);
    return h("div", { class: "field" }, h("label", { for: id }, filterLabel(name)), input);
  }

  #toggle() {
    this.form.hidden = !this.form.hidden;
    this.button.setAttribute("aria-expanded", String(!this.form.hidden));
    if (!this.form.hidden) this.#inputs.values().next().value?.focus();
  }

  /** @param {Event} event */
  #submit(event) {
    event.preventDefault();
    this.apply(Object.fromEntries([...this.#inputs].map(([name, input]) => [name, input.value.trim()])));
  }

  #clear() {
    for (const input of this.#inputs.values()) input.value = "";
    this.apply(Object.fromEntries(this.names.map((name) => [name, ""])));
  }
}
