-- Writes what another store has given away. Nobody is served yet, and everything is written as it was
-- there: written again it is the same.
--
-- ARGV: the copy; then records, each with a word in front:
--   c field value                 a counter
--   C field value                 what a person has said about a handler
--   m or g, key, value, expiry    a mark or a digest whose event is pruned
--   e …                           an event: id, source, its mark or '', the digest it is the first of
--                                 or '', when it ended or '', the list of those that ended so, held; the
--                                 request it came in, its headers and its body, or ''; how many fields,
--                                 duplicates and deliveries; then these, the oldest duplicate first. A delivery: id, handler, state, score; its
--                                 place in line or ''; how many fields and attempts; then these in pairs
--   k …                           a key: id, API, begun at, stage, when its lease ends or it is over,
--                                 value, how many fields; then these

if string.match(standing, '^%S+ (%S+)') ~= ARGV[1] then
  return redis.error_reply('MOVING ' .. standing)
end

local at = 2
local function take()
  at = at + 1
  return ARGV[at - 1]
end
local function take_some(count)
  at = at + count
  return unpack(ARGV, at - count, at - 1)
end

local function import_delivery()
  local id, handler, state, score, place = take_some(5)
  local fields, attempts = tonumber(take()), tonumber(take())
  call('HSET', base .. 'd' .. id, take_some(2 * fields))
  if attempts > 0 then call('HSET', base .. 'a' .. id, take_some(2 * attempts)) end
  if place ~= '' then
    call('ZADD', line_of(handler, call('HGET', base .. 'd' .. id, 'o')), place, id)
  end
  call('ZADD', base .. 'D', 0, id)
  if state == 'q' or state == 'l' then call('ZADD', base .. 'q' .. handler, score, id) end
  if state == 'x' then call('ZADD', base .. 'x' .. handler, 0, id) end
end

local function import_event()
  local id, source, mark, first_of, ended, list, held = take_some(7)
  local request, request_headers, request_body = take_some(3)
  local fields, duplicates, deliveries = tonumber(take()), tonumber(take()), tonumber(take())
  if mark ~= '' then call('SET', base .. 'm' .. mark, id) end
  if first_of ~= '' then call('SET', base .. 'g' .. first_of, id) end
  if ended ~= '' then call('ZADD', base .. list, ended, id) end
  if held == '1' then call('ZADD', base .. 'h' .. source, 0, id) end
  if request ~= '' then
    call('HSET', base .. 'R' .. request, 'h', request_headers, 'b', request_body)
    call('SADD', base .. 'S' .. request, id)
  end
  call('HSET', base .. 'e' .. id, take_some(2 * fields))
  call('DEL', base .. 'u' .. id)
  for _ = 1, duplicates do call('LPUSH', base .. 'u' .. id, take()) end
  for _ = 1, deliveries do import_delivery() end
  call('ZADD', base .. 'E', 0, id)
end

local function import_key()
  local id, api, begun_at, stage, ends, value, fields = take_some(7)
  local info = base .. 'i' .. id
  call('HSET', info, take_some(2 * tonumber(fields)))
  call('SADD', base .. 'O', api)
  call('ZADD', base .. 'K', begun_at, id)
  if stage == 'c' then
    local expiry = string.format('%.0f', ends - 1) -- a millisecond less, as in keyed.lua
    call('ZADD', base .. 'fk', ends, id)
    call('SET', base .. 'k' .. id, value, 'PXAT', expiry)
    call('PEXPIREAT', info, expiry)
  else
    call('ZADD', base .. 'o' .. api, stage == 'b' and ends or 0, id)
    call('SET', base .. 'k' .. id, value)
  end
end

while at <= #ARGV do
  local kind = take()
  if kind == 'c' or kind == 'C' then
    call('HSET', base .. kind, take_some(2))
  elseif kind == 'e' then
    import_event()
  elseif kind == 'k' then
    import_key()
  else
    local key, value, expiry = take_some(3)
    call('SET', base .. kind .. key, value, 'PXAT', expiry)
  end
end
return 'K'
