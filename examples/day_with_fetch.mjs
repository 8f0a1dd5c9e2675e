// Typical requests with Node's fetch: create, read, change, list, import, export and delete members.

import assert from 'node:assert/strict'

const base = process.env.MEMBERS_URL ?? 'http://127.0.0.1:8888'

async function send(method, path, status, headers = {}, body = undefined) {
  const authorization = `Bearer ${process.env.MEMBERS_TOKEN}`
  const response = await fetch(base + path, { method, headers: { authorization, ...headers }, body })
  if (response.status !== status) throw new Error(`${method} ${path}: ${await response.text()}`)
  return response
}

const json = { 'content-type': 'application/json' }
const ada = JSON.stringify({ name: 'Ada fetch', phone: '555-0100' })
const created = await send('POST', '/members', 201, json, ada)
const path = created.headers.get('location')
const etag = created.headers.get('etag')
await send('GET', path, 304, { 'if-none-match': etag })

const merge = { 'if-match': etag, 'content-type': 'application/merge-patch+json' }
await send('PATCH', path, 200, merge, '{"phone": "555-0199"}')
await send('PATCH', path, 412, merge, '{"phone": null}') // another version by now

const page = await (await send('GET', '/members?limit=10&q=fetch', 200)).json()
assert.deepEqual(page.items.map((member) => member.name), ['Ada fetch'])

const rows = 'name,email\nBob fetch,bob@example.org\nCyd fetch,cyd@example.org\n'
const results = await send('POST', '/members/import', 200, { 'content-type': 'text/csv' }, rows)
assert.ok((await results.text()).endsWith('{"summary": {"created": 2}}\n'))
const csv = await (await send('GET', '/members?q=fetch', 200, { accept: 'text/csv' })).text()
const lines = csv.trim().split('\n').slice(1)
for (const line of lines) await send('DELETE', `/members/${line.split(',')[0]}`, 204)
console.log(`fetch: ${lines.length} members made, read, changed and deleted`)
