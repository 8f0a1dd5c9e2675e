/** Displays the values of fields, and creates inputs for them. */

import { h, isolated, uniqueId } from "./dom.js";
import { equal } from "./schema.js";
import { formatDate, formatNumber, formatTime, labelOf, text } from "./text.js";

/** @typedef {import("./schema.js").Field} Field */

/** Return a value as a node, with links for addresses and numbers. @param {Field} field @param {unknown} value */
export function showValue(field, value) {
  if (value === null || value === undefined || (Array.isArray(value) && !value.length)) {
    return h("span", { class: "none" }, text.none);
  }
  if (Array.isArray(value)) {
    return h(
      "ul",
      { class: "tags" },
      value.map((one) => h("li", {}, showOne(field, one))),
    );
  }
  return showOne(field, value);
}

/** @param {Field} field @param {any} value */
function showOne(field, value) {
  if (typeof value === "boolean") return value ? text.yes : text.no;
  if (typeof value === "number") return formatNumber(value);
  const shown = String(value);
  if (field.type === "email")
    return h("a", { href: `mailto:${encodeURIComponent(shown).replace("%40", "@")}` }, isolated(shown));
  if (field.type === "phone") return h("a", { href: `tel:${shown.replace(/[^\d+]/g, "")}` }, isolated(shown));
  if (field.type === "date" && /^\d{4}-\d\d-\d\d$/.test(shown)) {
    return h("time", { datetime: shown }, formatDate(shown));
  }
  if (field.type === "date-time" && !Number.isNaN(Date.parse(shown))) {
    return h("time", { datetime: shown }, formatTime(shown));
  }
  return isolated(shown);
}

/** Return a value as text, for the cells of a table. @param {Field | null} field @param {unknown} value */
export function valueText(field, value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "boolean") return value ? text.yes : text.no;
  if (field?.type === "date-time" && typeof value === "string" && !Number.isNaN(Date.parse(value))) {
    return formatTime(value);
  }
  if (Array.isArray(value)) return value.join(", ");
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** An input with its label, its help and its faults. */
export class FieldInput {
  /** @param {Field} field @param {unknown} value */
  constructor(field, value) {
    this.field = field;
    this.original = value === "" ? null : (value ?? null);
    this.id = uniqueId("field");
    this.control = makeControl(field, this.id, value);
    this.initial = this.#entered;
    this.fault = h("p", { class: "fault", id: `${this.id}-fault`, hidden: true });
    const help = helpOf(field);
    this.help = help ? h("p", { class: "help", id: `${this.id}-help` }, help) : null;
    this.#describe();
    this.element = h(
      "div",
      { class: "field" },
      h(
        "label",
        { for: this.id },
        field.label,
        !field.required && h("span", { class: "optional" }, ` ${text.optional}`),
      ),
      this.control,
      this.help,
      this.fault,
    );
  }

  get isDirty() {
    return !equal(this.#entered, this.initial);
  }

  /** The value. If the input is unchanged, this is the original value, which the input may be unable to represent. */
  get value() {
    return this.isDirty ? this.#entered : this.original;
  }

  /** The value entered, or null. Text that is not a number remains text, which the service refuses. */
  get #entered() {
    const { field, control } = this;
    if (field.list) {
      const lines = control.value
        .split("\n")
        .map((line) => line.trim())
        .filter(Boolean);
      return lines.length ? lines.map((line) => parseOne(field, line)) : null;
    }
    return control.value === "" ? null : parseOne(field, control.value);
  }

  /** Show a fault beside the input. @param {Node | string} message */
  setFault(message) {
    this.fault.replaceChildren(message);
    this.fault.hidden = false;
    this.control.setAttribute("aria-invalid", "true");
    this.#describe();
  }

  clearFault() {
    this.fault.hidden = true;
    this.control.removeAttribute("aria-invalid");
    this.#describe();
  }

  #describe() {
    const ids = [this.fault.hidden ? "" : this.fault.id, this.help?.id ?? ""].filter(Boolean);
    if (ids.length) this.control.setAttribute("aria-describedby", ids.join(" "));
    else this.control.removeAttribute("aria-describedby");
  }
}

/** Return the help text of a field: the description of an attribute, and how to enter a list or a time. @param {Field} field */
function helpOf(field) {
  const description = field.path.length > 1 ? field.description : "";
  const manner = field.list ? text.form.listHelp : field.type === "date-time" ? text.form.yourTime : "";
  return [description && `${description}${/[.!?]$/.test(description) ? "" : "."}`, manner]
    .filter(Boolean)
    .join(" ");
}

/** @param {Field} field @param {string} entered @returns {unknown} */
function parseOne(field, entered) {
  if (field.type === "boolean") return entered === "true";
  if (field.type === "integer" || field.type === "number") {
    const value = Number(entered);
    return Number.isFinite(value) ? value : entered;
  }
  if (field.type === "date-time") {
    const at = new Date(entered);
    return Number.isNaN(at.getTime()) ? entered : at.toISOString();
  }
  return entered;
}

/** @param {Field} field @param {string} id @param {unknown} value @returns {HTMLInputElement | HTMLSelectElement | HTMLTextAreaElement} */
function makeControl(field, id, value) {
  const common = { id, name: field.key, dir: "auto", "aria-required": field.required && "true" };
  if (field.list) {
    const lines = Array.isArray(value) ? value.join("\n") : "";
    return h("textarea", { ...common, rows: 3 }, lines);
  }
  const choices = field.type === "boolean" ? ["true", "false"] : field.choices;
  if (choices) return makeSelect(field, common, choices, value);
  if (typeof value === "string" && /[\r\n]/.test(value)) return h("textarea", { ...common, rows: 3 }, value);
  const input = h("input", { ...common, type: inputType(field), autocomplete: "off", spellcheck: "false" });
  if (field.type === "number" || field.type === "date-time") input.step = "any";
  if (field.minimum !== null) input.min = String(field.minimum);
  if (field.maximum !== null) input.max = String(field.maximum);
  input.value = field.type === "date-time" ? localTime(value) : valueText(null, value);
  return input;
}

/** @param {Field} field @param {Record<string, any>} common @param {string[]} choices @param {unknown} value */
function makeSelect(field, common, choices, value) {
  const current = value === null || value === undefined ? "" : String(value);
  const all = current && !choices.includes(current) ? [...choices, current] : choices;
  const name = (/** @type {string} */ one) =>
    field.type === "boolean" ? (one === "true" ? text.yes : text.no) : one;
  const select = h(
    "select",
    common,
    h("option", { value: "" }, text.notAnswered),
    all.map((one) => h("option", { value: one }, name(one))),
  );
  select.value = current;
  return select;
}

/** @param {Field} field */
function inputType(field) {
  const types = {
    integer: "number",
    number: "number",
    date: "date",
    "date-time": "datetime-local",
    phone: "tel",
    email: "email",
    string: "text",
    boolean: "text",
  };
  return types[field.type];
}

/** Return a time in the format of a `datetime-local` input. @param {unknown} value */
function localTime(value) {
  const at = new Date(String(value ?? ""));
  if (Number.isNaN(at.getTime())) return "";
  const shifted = new Date(at.getTime() - at.getTimezoneOffset() * 60_000);
  return shifted.toISOString().slice(0, at.getSeconds() || at.getMilliseconds() ? 23 : 16);
}

/** Return the label of a query parameter. @param {string} name */
export function filterLabel(name) {
  return name === "name_prefix" ? text.list.prefix : labelOf(name);
}
