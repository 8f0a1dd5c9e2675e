/** A description with attributes, a search and a feed, as /openapi.json has it. */

const nullable = (schema) => ({ anyOf: [schema, { type: "null" }], default: null });

export const DOCUMENT = {
  paths: {
    "/members": {
      get: {
        parameters: [
          { $ref: "#/components/parameters/Prefer" },
          ...["q", "name", "name_prefix", "email", "attributes.level", "limit", "after"].map((name) => ({
            name,
            in: "query",
            schema: {},
          })),
          { name: "sort", in: "query", schema: { enum: ["memberId", "-memberId", "name", "-name"] } },
        ],
      },
    },
    "/members/changes": {},
    "/members/import": {
      post: { parameters: [{ name: "results", in: "query", schema: { enum: ["all", "rejects"] } }] },
    },
    "/login": {},
  },
  components: {
    parameters: { Prefer: { name: "Prefer", in: "header" } },
    schemas: {
      MemberDraft: {
        required: ["name"],
        properties: {
          name: { type: "string", maxLength: 255 },
          email: nullable({ type: "string", format: "idn-email" }),
          phone: nullable({ type: "string" }),
          attributes: { $ref: "#/components/schemas/Attributes" },
        },
      },
      Attributes: {
        type: ["object", "null"],
        required: ["level"],
        properties: {
          level: nullable({ type: "string", enum: ["gold", "silver"] }),
          tags: nullable({ type: "array", items: { type: "string" } }),
          birthday: nullable({ type: "string", format: "date" }),
          seenAt: nullable({ type: "string", format: "date-time" }),
          score: { type: ["integer", "null"], minimum: 0, maximum: 10 },
          vip: { type: "boolean", default: false },
        },
      },
    },
  },
};
