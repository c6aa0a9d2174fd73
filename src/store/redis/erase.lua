-- Takes away what the sender of an event has written. The event itself stays, and so does its mark.
--
-- Its admission may have broken off before its deliveries were made: those are not made any more.
--
-- ARGV: not after, event, what a delivery says that is killed for it; in the buckets that do not have
-- the event also the request it came in, whose body may be kept there for others.
-- Answers L late · N no such event · R an attempt is running · or its request, and those killed.

local now, not_after, event, word = time(), tonumber(ARGV[1]), ARGV[2], ARGV[3]
if now > not_after then return 'L' end

local function erase_request(request)
  local kept = base .. 'R' .. request
  if call('EXISTS', kept) == 1 then call('HSET', kept, 'b', '') end
end

local key = base .. 'e' .. event
local kept = call('HMGET', key, 'm', 'ds', 'rq', 'zr', 'er')
if not kept[1] then
  if not ARGV[4] then return 'N' end
  expect_to_count()
  erase_request(ARGV[4])
  return {}
end

local deliveries, ids = {}, ''
for from = 1, #kept[2], 16 do
  local id = string.sub(kept[2], from, from + 15)
  local one = call('HMGET', base .. 'd' .. id, 's', 't', 'h', 'src', 'k', 'x', 'o')
  if one[1] == 'l' and tonumber(one[2]) > now then return 'R' end
  if one[1] then
    deliveries[#deliveries + 1] = { id = id, state = one[1], handler = one[3], source = one[4],
      token = tonumber(one[5] or 0), error = one[6], order = one[7] }
    ids = ids .. id
  end
end

local function without_marker(note)
  note = cjson.decode(note)
  note.retry_marker = cjson.null
  return cjson.encode(note)
end

local function erase_notes()
  local list = base .. 'u' .. event
  local notes = call('LRANGE', list, 0, -1)
  call('DEL', list)
  for at = #notes, 1, -1 do call('LPUSH', list, without_marker(notes[at])) end
end

-- What is written down of one that died is in our own words.
local function erase_attempts(id)
  local attempts = call('HGETALL', base .. 'a' .. id)
  for at = 1, #attempts, 2 do
    local attempt = attempts[at + 1]
    attempt = string.sub(attempt, 1, 5) ~= 'died:' and cjson.decode(attempt)
    if attempt and attempt.outcome ~= 'died' then
      attempt.error, attempt.excerpt = cjson.null, cjson.null
      call('HSET', base .. 'a' .. id, attempts[at], cjson.encode(attempt))
    end
  end
end

-- Says whether it was killed for this, now or before.
local function erase_delivery(one)
  erase_attempts(one.id)
  -- Whoever held it until its lease ran out may not settle it any more. By two, since by one it would be
  -- one that was buried, and what was done of that still counts.
  call('HSET', base .. 'd' .. one.id, 'k', one.token + 2)
  local is_open = one.state == 'q' or one.state == 'l'
  if is_open then
    call('HSET', base .. 'd' .. one.id, 's', 'x', 't', now, 'x', word)
    count(one.state == 'q' and 'queued' or 'leased', one.source, one.handler, -1)
    count('dead', one.source, one.handler, 1)
    count('dead_now', one.source, one.handler, 1)
    put_away(one.id, event, one.handler, 'x', now, one.order)
  elseif one.error and one.error ~= word then
    call('HSET', base .. 'd' .. one.id, 'x', '')
  end
  return is_open or one.error == word
end

local function erase_event()
  local meta = cjson.decode(kept[1])
  meta.event.query, meta.event.retry_marker, meta.body_bytes = '', cjson.null, 0
  call('HSET', key, 'm', cjson.encode(meta), 'h', '', 'b', '', 'ds', ids, 'hs', '',
    'er', kept[5] or now)
  erase_notes()
  if not kept[3] then return end
  -- What came in it with this one has its headers for its own.
  erase_request(kept[3])
  call('HSET', key, 'zr', kept[3])
  call('HDEL', key, 'rq')
  call('SREM', base .. 'S' .. kept[3], event)
  if call('SCARD', base .. 'S' .. kept[3]) == 0 then call('DEL', base .. 'R' .. kept[3]) end
end

local answer = { kept[3] or kept[4] or '' }
local function erase()
  erase_event()
  for _, one in ipairs(deliveries) do
    if erase_delivery(one) then answer[#answer + 1] = one.id end
  end
  return answer
end

-- What is done is counted, also where it broke off: sent again, the wish completes the rest.
expect_to_count()
local done = alone(erase)
write_counts()
return done
