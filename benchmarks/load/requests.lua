-- The requests that wrk sends, and one line of JSON with the result.
--   wrk -s requests.lua URL -- KIND TOKEN MEMBERS START SERIAL [FILE]
-- Requests the members 1 to MEMBERS, from START on; writes are numbered from SERIAL. FILE has one line
-- per request: the ETags of the members, from that of member 1; or the paths of pages.

local STEP = 48611 -- shares no factor with a power of ten, so the walk visits each member once
local PIPELINED = 16 -- requests at once
local BATCH = 100 -- members of a batch
local WRITE_EACH = 20 -- of the mixed requests: 5 %

local head, members, place, serial
local sent = 0
local lines = {}

local function walk()
    place = (place + STEP) % members
    return place + 1
end

local function reverse(id) -- as in the name of a member
    return string.format("%d", id):reverse()
end

local function get(id)
    return "GET /members/" .. id .. head .. "\r\n"
end

local function put(id)
    serial = serial + 1
    local text = '{"name":"Ada Lovelace %s","email":"ada.m%d@example.org","phone":"+1-555-%010d"}'
    local body = text:format(reverse(id), id, serial)
    return "PUT /members/" .. id .. head .. "Content-Type: application/json\r\nContent-Length: "
        .. #body .. "\r\n\r\n" .. body
end

local function patch(id)
    serial = serial + 1
    local body = ('{"phone":"+1-555-%010d"}'):format(serial)
    return "PATCH /members/" .. id .. head .. "Content-Type: application/merge-patch+json\r\n"
        .. "Content-Length: " .. #body .. "\r\n\r\n" .. body
end

local function get_with(headers)
    return "GET /members/" .. walk() .. head .. headers .. "\r\n"
end

local function batch()
    local ids = {}
    for i = 1, BATCH do ids[i] = walk() end
    return table.concat(ids, ",")
end

local kinds = {
    name = function()
        return "GET /members/by-name/Ada%20Lovelace%20" .. reverse(walk()) .. head .. "\r\n"
    end,
    accept = function() return get_with("Accept: application/json, */*\r\n") end,
    fresh = function() return get_with("Cache-Control: max-age=0\r\n") end,
    origin = function() return get_with("Origin: https://app.example\r\n") end,
    proxied = function()
        return get_with("X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: https\r\n")
    end,
    handler = function() return get_with("If-Match: *\r\n") end,
    pipelined = function()
        local several = {}
        for i = 1, PIPELINED do several[i] = get(walk()) end
        return table.concat(several)
    end,
    get = function() return get(walk()) end,
    put = function() return put(walk()) end,
    patch = function() return patch(walk()) end,
    batch = function() return "GET /members?memberId=" .. batch() .. head .. "\r\n" end,
    lookup = function()
        local body = '{"memberIds":[' .. batch() .. ']}'
        return "POST /members/lookup" .. head .. "Content-Type: application/json\r\n"
            .. "Content-Length: " .. #body .. "\r\n\r\n" .. body
    end,
    page = function() return "GET " .. lines[walk() % #lines + 1] .. head .. "\r\n" end,
    unchanged = function()
        local id = walk()
        return "GET /members/" .. id .. head .. "If-None-Match: " .. lines[id] .. "\r\n\r\n"
    end,
    mixed = function()
        sent = sent + 1
        if sent % WRITE_EACH == 0 then return put(walk()) end
        return get(walk())
    end,
}

function init(args)
    request = kinds[args[1]]
    head = " HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer " .. args[2] .. "\r\n"
    members, place, serial = tonumber(args[3]), tonumber(args[4]), tonumber(args[5])
    if args[6] then
        for line in io.lines(args[6]) do lines[#lines + 1] = line end
    end
end

function done(summary, latency, requests)
    local errors = summary.errors
    print(string.format(
        '\n{"requests": %d, "seconds": %f, "p50_ms": %f, "p99_ms": %f, "refused": %d, "broken": %d}',
        summary.requests, summary.duration / 1e6,
        latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
        errors.status, errors.connect + errors.read + errors.write + errors.timeout
    ))
end
