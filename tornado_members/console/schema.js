/** Reads the fields of members and the features of the service from /openapi.json. */

import { labelOf } from "./text.js";

/**
 * @typedef {"string" | "integer" | "number" | "boolean" | "date" | "date-time" | "email" | "phone"} Type
 * @typedef {object} Field
 * @property {string} key `name`, or `attributes.level`
 * @property {string[]} path the names that lead to its value
 * @property {string} pointer the JSON pointer of its value (RFC 6901)
 * @property {string} label
 * @property {string} description
 * @property {Type} type
 * @property {boolean} required
 * @property {boolean} list
 * @property {string[] | null} choices
 * @property {number | null} minimum
 * @property {number | null} maximum
 * @property {number | null} maxLength
 * @property {unknown} default
 */
/**
 * @typedef {object} Schema
 * @property {Field[]} fields
 * @property {string[]} filters the query parameters of lists that compare a value
 * @property {string[]} sorts
 * @property {boolean} search
 * @property {boolean} feed
 * @property {boolean} history
 * @property {boolean} login
 * @property {boolean} users
 * @property {boolean} status
 * @property {boolean} rejects an import can return the refused rows
 */

const NOT_FILTERS = new Set(["limit", "sort", "after", "bom", "delimiter", "q", "memberId", "name"]);

/** @param {any} document @returns {Schema} */
export function readSchema(document) {
  const resolve = (/** @type {any} */ part) => resolveReference(document, part);
  const paths = document.paths ?? {};
  const parameters = (paths["/members"]?.get?.parameters ?? []).map(resolve);
  const query = parameters.filter((/** @type {any} */ one) => one.in === "query");
  const names = query.map((/** @type {any} */ one) => String(one.name));
  const sort = query.find((/** @type {any} */ one) => one.name === "sort");
  const imports = (paths["/members/import"]?.post?.parameters ?? []).map(resolve);
  const results = imports.find((/** @type {any} */ one) => one.name === "results");
  return {
    fields: readFields(document.components?.schemas?.MemberDraft ?? {}, resolve),
    filters: names.filter((/** @type {string} */ name) => !NOT_FILTERS.has(name)),
    sorts: resolve(sort?.schema ?? {}).enum ?? ["memberId"],
    search: names.includes("q"),
    feed: "/members/changes" in paths,
    history: "/members/{memberId}/history" in paths,
    login: "/login" in paths,
    users: "/users" in paths,
    status: "/status" in paths,
    rejects: (resolve(results?.schema ?? {}).enum ?? []).includes("rejects"),
  };
}

/**
 * @param {any} draft
 * @param {(part: any) => any} resolve
 * @returns {Field[]}
 */
function readFields(draft, resolve) {
  /** @type {Field[]} */
  const fields = [];
  for (const [name, given] of Object.entries(draft.properties ?? {})) {
    if (name === "memberId") continue;
    const schema = resolve(given);
    const value = withoutNull(schema, resolve);
    if (value.properties) {
      const required = value.required ?? [];
      for (const [inner, one] of Object.entries(value.properties)) {
        fields.push(readField([name, inner], resolve(one), required.includes(inner), resolve));
      }
    } else {
      fields.push(readField([name], schema, (draft.required ?? []).includes(name), resolve));
    }
  }
  return fields;
}

/**
 * @param {string[]} path
 * @param {any} schema
 * @param {boolean} required
 * @param {(part: any) => any} resolve
 * @returns {Field}
 */
function readField(path, schema, required, resolve) {
  const whole = withoutNull(schema, resolve);
  const list = typeOf(whole) === "array";
  const value = list ? withoutNull(resolve(whole.items ?? {}), resolve) : whole;
  const key = path.join(".");
  return {
    key,
    path,
    pointer: pointerOf(path),
    label: labelOf(key),
    description: schema.description ?? whole.description ?? "",
    type: fieldType(key, value),
    required,
    list,
    choices: readChoices(value),
    minimum: value.minimum ?? null,
    maximum: value.maximum ?? null,
    maxLength: value.maxLength ?? null,
    default: schema.default ?? whole.default ?? null,
  };
}

/** @param {any} value @returns {string[] | null} */
function readChoices(value) {
  const found = (value.enum ?? []).filter((/** @type {unknown} */ one) => typeof one === "string");
  return found.length ? found : null;
}

/** @param {string} key @param {any} value @returns {Type} */
function fieldType(key, value) {
  const type = typeOf(value);
  if (type === "integer" || type === "number" || type === "boolean") return type;
  const format = String(value.format ?? "");
  if (format === "date" || format === "date-time") return format;
  if (format === "email" || format === "idn-email") return "email";
  return key === "phone" || format === "phone" ? "phone" : "string";
}

/** @param {any} schema */
function typeOf(schema) {
  const types = [schema.type ?? []].flat().filter((/** @type {string} */ one) => one !== "null");
  return types[0];
}

/** Return the alternative of a schema that is not null. @param {any} schema @param {(part: any) => any} resolve */
function withoutNull(schema, resolve) {
  const choices = schema.anyOf ?? schema.oneOf;
  if (!choices) return schema;
  return choices.map(resolve).find((/** @type {any} */ one) => one.type !== "null") ?? schema;
}

/** @param {any} document @param {any} part */
function resolveReference(document, part) {
  if (!part?.$ref) return part ?? {};
  let found = document;
  for (const step of String(part.$ref).replace("#/", "").split("/")) found = found?.[step];
  return found ?? {};
}

/** Return the JSON pointer of a path (RFC 6901). @param {string[]} path */
export function pointerOf(path) {
  return path.map((step) => `/${step.replaceAll("~", "~0").replaceAll("/", "~1")}`).join("");
}

/** Return the value of a field, or null. @param {any} member @param {Field} field */
export function valueOf(member, field) {
  let found = member;
  for (const step of field.path) {
    if (found === null || typeof found !== "object" || !Object.hasOwn(found, step)) return null;
    found = found[step];
  }
  return found ?? null;
}

/**
 * Return a member, or a merge patch, with these values of fields.
 * @param {Iterable<[Field, unknown]>} values
 * @returns {Record<string, any>}
 */
export function assemble(values) {
  /** @type {Record<string, any>} */
  const result = {};
  for (const [field, value] of values) {
    let inner = result;
    for (const step of field.path.slice(0, -1)) inner = inner[step] ??= {};
    inner[field.path[field.path.length - 1]] = value;
  }
  return result;
}

/** Return true if two values of a field are equal. @param {unknown} one @param {unknown} other */
export function equal(one, other) {
  return JSON.stringify(one ?? null) === JSON.stringify(other ?? null);
}
