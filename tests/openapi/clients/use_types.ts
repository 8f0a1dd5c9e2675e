// Compiled with types that openapi-typescript has generated, and never run.
import type { components, paths } from "./members";

type Member = components["schemas"]["Member"];
type Draft = components["schemas"]["MemberDraft"];
type Read = paths["/members/{memberId}"]["get"];
type Found = Read["responses"][200]["content"]["application/json"];
type Missing = Read["responses"][404]["content"]["application/problem+json"];
type Query = NonNullable<paths["/members"]["get"]["parameters"]["query"]>;

export function nameOf(found: Found): string {
  const member: Member = found;
  return member.email ?? member.name;
}

export const draft: Draft = { name: "Ada", attributes: { level: "gold", score: 7, tags: ["a"] } };
export const query: Query = { q: "love ada", sort: "-name", limit: 10 };
export const code: Missing["code"] = "member-not-found";
export const named: paths["/members/by-name"]["get"]["parameters"]["query"] = { name: "AC/DC" };

// @ts-expect-error a member has a name
export const unnamed: Draft = { email: null };
// @ts-expect-error this level is not declared
export const level: Draft = { name: "Ada", attributes: { level: "lead" } };
// @ts-expect-error the name is required
export const nobody: paths["/members/by-name"]["get"]["parameters"]["query"] = {};
