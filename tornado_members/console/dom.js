/** Creates elements. Data becomes text nodes and attributes, never markup. */

/** @typedef {Node | string | number | null | undefined | false} Child */
/** @typedef {string | number | boolean | null | undefined | ((event: any) => unknown)} Value */

/**
 * Return a new element. A function is a listener (`onclick`), `true` an attribute without a value,
 * and `false`, `null` and `undefined` leave the attribute out.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, Value>} [attributes]
 * @param {...(Child | Child[])} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  setAll(element, attributes);
  append(element, children);
  return element;
}

/**
 * Return a new SVG element.
 * @param {string} tag
 * @param {Record<string, Value>} attributes
 * @param {...(Child | Child[])} children
 */
export function svg(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  setAll(element, attributes);
  append(element, children);
  return element;
}

/**
 * Replace the content of an element.
 * @param {Element} element
 * @param {...(Child | Child[])} children
 */
export function fill(element, ...children) {
  element.replaceChildren();
  append(element, children);
}

/** @param {Element} element @param {Record<string, Value>} attributes */
function setAll(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, String(value));
  }
}

/** @param {Element} element @param {(Child | Child[])[]} children */
function append(element, children) {
  for (const child of children.flat()) {
    if (child !== null && child !== undefined && child !== false) {
      element.append(child instanceof Node ? child : String(child));
    }
  }
}

let lastId = 0;

/** Return an id for an element that no other element has. @param {string} prefix */
export function uniqueId(prefix) {
  lastId += 1;
  return `${prefix}-${lastId}`;
}

/** Return text whose direction is isolated from its surroundings. @param {unknown} text */
export function isolated(text) {
  return h("bdi", {}, String(text));
}

const ICONS = {
  search:
    "M10.5 4a6.5 6.5 0 1 0 4 11.6l4.4 4.4 1.4-1.4-4.4-4.4A6.5 6.5 0 0 0 10.5 4Zm0 2a4.5 4.5 0 1 1 0 9 4.5 4.5 0 0 1 0-9Z",
  close: "m6.4 5 5.6 5.6L17.6 5 19 6.4 13.4 12l5.6 5.6-1.4 1.4-5.6-5.6L6.4 19 5 17.6l5.6-5.6L5 6.4 6.4 5Z",
  add: "M11 5h2v6h6v2h-6v6h-2v-6H5v-2h6V5Z",
  next: "m9 5 7 7-7 7-1.4-1.4L13.2 12 7.6 6.4 9 5Z",
  previous: "m15 5 1.4 1.4L10.8 12l5.6 5.6L15 19l-7-7 7-7Z",
  up: "m12 7 6 7H6l6-7Z",
  down: "m12 17-6-7h12l-6 7Z",
  file: "M11 16V7.8L7.9 11 6.5 9.6 12 4l5.5 5.6-1.4 1.4L13 7.8V16h-2ZM5 18h14v2H5v-2Z",
};

/** Return an icon, which is hidden from screen readers. @param {keyof typeof ICONS} name */
export function icon(name) {
  const mirrors = name === "next" || name === "previous";
  return svg(
    "svg",
    { class: mirrors ? "icon mirrors" : "icon", viewBox: "0 0 24 24", "aria-hidden": "true" },
    svg("path", { d: ICONS[name] }),
  );
}
