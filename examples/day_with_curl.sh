#!/usr/bin/env bash
# Typical requests with curl: create, read, change, list, import, export and delete members.
set -euo pipefail
base=${MEMBERS_URL:-http://127.0.0.1:8888}
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT

# send STATUS METHOD PATH [OPTIONS]: prints the body; the headers are in $folder/headers.
send() {
    local expected=$1 method=$2 path=$3 status
    shift 3
    rm -f "$folder/body"
    status=$(curl --silent --show-error --max-time 30 --request "$method" "$@" \
        --header "Authorization: Bearer $MEMBERS_TOKEN" --dump-header "$folder/headers" \
        --output "$folder/body" --write-out '%{http_code}' "$base$path")
    cat "$folder/body" 2>/dev/null || true
    [ "$status" = "$expected" ] || { echo "$method $path: $status" >&2; exit 1; }
}
header() { sed -n "s/^$1: *\(.*\)\r$/\1/ip" "$folder/headers"; }

send 201 POST /members --json '{"name": "Ada curl", "phone": "555-0100"}' >/dev/null
path=$(header Location) etag=$(header ETag)
send 304 GET "$path" --header "If-None-Match: $etag"

merge=(--header 'Content-Type: application/merge-patch+json' --header "If-Match: $etag")
send 200 PATCH "$path" "${merge[@]}" --data '{"phone": "555-0199"}' >/dev/null
send 412 PATCH "$path" "${merge[@]}" --data '{"phone": null}' >/dev/null # another version by now

send 200 GET '/members?limit=10&q=curl' | grep -q '"Ada curl"'
printf 'name,email\nBob curl,bob@example.org\nCyd curl,cyd@example.org\n' |
    send 200 POST /members/import --header 'Content-Type: text/csv' --data-binary @- |
    grep -qF '{"summary": {"created": 2}}'
ids=$(send 200 GET '/members?q=curl' --header 'Accept: text/csv' | tail -n +2 | cut -d, -f1)
for id in $ids; do send 204 DELETE "/members/$id"; done
echo "curl: $(wc -w <<<"$ids") members made, read, changed and deleted"
