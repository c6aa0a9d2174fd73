-- Admits events: mark, event and deliveries of each.
--
-- The mark is made first, holding our id and `u` for unfinished; all else is written under that id;
-- the last write clears the `u`. So whoever comes back after a script that broke off finds out, and
-- completes it under the same id: nothing is lost, and nothing is queued twice. Counters are written
-- before the marks are cleared: what is unfinished was not counted yet.
--
-- ARGV: most held per source, duplicates kept; the number of requests that events came in, and id,
-- headers and body of each; then for each event its 15 fields, the number of its deliveries, and id
-- and handler of each. Its orders are one text, of 17 bytes for each delivery; empty if none has any.
-- Answers for each: F, H or D with the id · L late · X too many held · E with an error.

local now = time()
local held_max, duplicates_kept_max = tonumber(ARGV[1]), tonumber(ARGV[2])

-- What this call has admitted and not cleared yet: by mark, or by event where there is no mark.
local begun = {}

-- What this very event was answered before, or nothing when it is pruned.
local function again(id)
  local known = call('HMGET', base .. 'e' .. id, 's', 'held')
  return known[1] and (known[2] == '1' and 'H' or 'F') .. id
end

local function note_duplicate(id, new)
  local event = base .. 'e' .. id
  -- The event may be pruned; its mark, and the count, go on.
  if call('EXISTS', event) == 1 then
    call('HINCRBY', event, 'n', 1)
    call('LPUSH', base .. 'u' .. id, new.note)
    call('LTRIM', base .. 'u' .. id, 0, duplicates_kept_max - 1)
  end
  count('duplicates', new.source, '', 1)
  return 'D' .. id
end

-- Whether this one would be held, and the source holds as many as it may.
local function is_one_too_many(new, mark)
  if not new.hold or new.digest == '' then return false end
  if not call('GET', base .. 'g' .. new.digest) then return false end
  return not (mark and call('GET', mark)) and call('ZCARD', base .. 'h' .. new.source) >= held_max
end

-- Writes the event itself, in one command: from then on everything it is to have is known.
local function keep(id, new, mark)
  local resent = false
  if new.digest ~= '' then
    local first = call('SET', base .. 'g' .. new.digest, id, 'NX', 'GET')
    resent = first and first ~= id
  end
  local held = resent and new.hold
  local ids, handlers = {}, {}
  if not held then
    for at = 1, #new.deliveries, 2 do
      ids[#ids + 1] = new.deliveries[at]
      handlers[#handlers + 1] = new.deliveries[at + 1] .. '\0'
    end
  end
  ids, handlers = table.concat(ids), table.concat(handlers)
  local fields = { 'm', new.meta, 'h', new.headers, 'b', new.body, 's', new.source, 'ds', ids,
    'hs', handlers, 'w', new.window_ends }
  local function add(field, value)
    fields[#fields + 1], fields[#fields + 2] = field, value
  end
  if new.request then add('rq', new.request.id) end
  if new.orders ~= '' then add('os', new.orders) end
  if mark then add('k', new.mark) else add('u', '1') end
  if new.digest ~= '' then add('g', new.digest) end
  if resent then add('r', '1') end
  if held then add('held', '1') end
  call('HSET', base .. 'e' .. id, unpack(fields))
  return ids, handlers, held, new.request and new.request.id
end

-- Keeps the request an event came in, once for all its events. The event refers to it before it is
-- there: so a script that broke off leaves nothing that no event leads to. The retry of that event
-- may have come in another request, and completes this one with what it has.
local function keep_request(request, id, new)
  local key = base .. 'R' .. request
  if call('HEXISTS', key, 'b') == 0 then
    local kept = new.request or { headers = new.headers, body = new.body }
    call('HSET', key, 'h', kept.headers, 'b', kept.body)
  end
  call('SADD', base .. 'S' .. request, id)
end

-- Writes all that belongs to the event beside itself. Done again, it changes nothing.
local function route(id, new, ids, handlers, held, orders)
  call('ZADD', base .. 'E', 0, id)
  local from = 1
  local order_from = 1
  for handler in string.gmatch(handlers, '(%Z+)%z') do
    local order = string.sub(orders, order_from, order_from + 16)
    if string.byte(order, 1) == 45 then order = '' end -- a dash: this one has none
    queue(string.sub(ids, from, from + 15), id, new.source, handler, new.due, nil,
      order ~= '' and order)
    from, order_from = from + 16, order_from + 17
  end
  if held then
    call('ZADD', base .. 'h' .. new.source, 0, id)
    call('ZADD', base .. 'fh', new.due, id)
  elseif handlers == '' then
    call('ZADD', base .. 'fx', new.due, id)
  end
end

local function count_event(new, handlers, held)
  count('events', new.source, '', 1)
  if new.shadow then count('shadow', new.source, '', 1) end
  if held then
    count('held', new.source, '', 1)
    count('held_now', new.source, '', 1)
  elseif handlers == '' then
    count('unrouted', new.source, '', 1)
  end
  for handler in string.gmatch(handlers, '(%Z+)%z') do
    count('events', new.source, handler, 1)
    count('queued', new.source, handler, 1)
  end
end

local function write(id, new, mark, broke_off)
  local ids, handlers, held, request
  local orders = new.orders
  if broke_off then
    local known = call('HMGET', base .. 'e' .. id, 'ds', 'hs', 'held', 'rq', 'os')
    ids, handlers, held, request = known[1], known[2], known[3] == '1', known[4]
    if ids then orders = known[5] or '' end
  end
  if not ids then ids, handlers, held, request = keep(id, new, mark) end
  if request then keep_request(request, id, new) end
  route(id, new, ids, handlers, held, orders)
  count_event(new, handlers, held)
  begun[mark or id] = id
  return (held and 'H' or 'F') .. id
end

local function admit_without_mark(new)
  local known = call('HMGET', base .. 'e' .. new.id, 's', 'u')
  if known[1] and (not known[2] or begun[new.id]) then return again(new.id) end
  if now > new.not_after then return 'L' end
  if is_one_too_many(new) then return 'X' end
  return write(new.id, new, nil, known[1])
end

local function admit(new)
  if new.mark == '' then return admit_without_mark(new) end
  local mark = base .. 'm' .. new.mark
  if now > new.not_after then
    return call('GET', mark) == new.id and again(new.id) or 'L'
  end
  if is_one_too_many(new, mark) then return 'X' end
  local known = call('SET', mark, new.id .. 'u', 'NX', 'GET')
  if not known then return write(new.id, new, mark) end
  local id = string.sub(known, 1, 16)
  if #known == 17 and not begun[mark] then return write(id, new, mark, true) end
  return id == new.id and again(id) or note_duplicate(id, new)
end

expect_to_count() -- a write, so that waiting for a replica covers also what was found done
local answers, at = {}, 4
local requests = {}
for _ = 1, tonumber(ARGV[3]) do
  requests[ARGV[at]] = { id = ARGV[at], headers = ARGV[at + 1], body = ARGV[at + 2] }
  at = at + 3
end
while at <= #ARGV do
  local new = {
    id = ARGV[at], source = ARGV[at + 1], not_after = tonumber(ARGV[at + 2]),
    due = math.min(tonumber(ARGV[at + 3]), now), window_ends = ARGV[at + 4], mark = ARGV[at + 5],
    digest = ARGV[at + 6], hold = ARGV[at + 7] == '1', shadow = ARGV[at + 8] == '1',
    note = ARGV[at + 9], meta = ARGV[at + 10], request = requests[ARGV[at + 11]],
    headers = ARGV[at + 12], body = ARGV[at + 13], orders = ARGV[at + 14],
  }
  local last = at + 15 + 2 * tonumber(ARGV[at + 15])
  new.deliveries = { unpack(ARGV, at + 16, last) }
  answers[#answers + 1] = alone(admit, new)
  at = last + 1
end

write_counts()
for key, id in pairs(begun) do
  if key == id then call('HDEL', base .. 'e' .. id, 'u') else call('SET', key, id) end
end
return answers
