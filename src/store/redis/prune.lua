-- Takes away a lot of events that ended long enough ago, and gives their marks what remains of the
-- window. A mark has no expiry before that, so it never ends before its event does.
--
-- ARGV: now, done before, dead before, held before, most events.
-- Answers how many events and marks went.

local now, lot = tonumber(ARGV[1]), tonumber(ARGV[5])

-- Gives a mark or a digest that is about this event its end. Says how many are gone at once. A mark
-- keeps the key of its digest, which tells its bucket where there are more of them.
local function let_go(key, event, window_ends, digest)
  local id = call('GET', key)
  if not id or string.sub(id, 1, 16) ~= event then return 0 end
  if window_ends < now then return call('DEL', key) end
  call('SET', key, event .. (digest or ''), 'PX', window_ends - now + 1)
  return 0
end

local function is_open(ids)
  for from = 1, #ids, 16 do
    local state = call('HGET', base .. 'd' .. string.sub(ids, from, from + 15), 's')
    if state == 'q' or state == 'l' then return true end
  end
  return false
end

local function forget_deliveries(ids)
  for from = 1, #ids, 16 do
    local id = string.sub(ids, from, from + 15)
    local key = base .. 'd' .. id
    local one = call('HMGET', key, 's', 'h', 'src', 'o')
    if one[1] then
      if one[4] then leave_line(id, one[2], one[4], now) end
      call('ZREM', base .. 'D', id)
      call('ZREM', base .. 'x' .. one[2], id)
      call('DEL', key, base .. 'a' .. id)
      if one[1] == 'x' then count('dead_now', one[3], one[2], -1) end
    end
  end
end

-- The request goes with the last event that came in it.
local function forget_request(request, event)
  call('SREM', base .. 'S' .. request, event)
  if call('SCARD', base .. 'S' .. request) == 0 then call('DEL', base .. 'R' .. request) end
end

-- An event goes last from the list of those that ended: a prune that broke off is completed.
local function forget(event, ended)
  local key = base .. 'e' .. event
  local kept = call('HMGET', key, 'ds', 's', 'k', 'g', 'w', 'held', 'rq')
  local ids, source, mark, digest = kept[1], kept[2], kept[3], kept[4]
  local gone = 0
  -- One that was opened again by a script that broke off is in the list by mistake.
  if ids and not is_open(ids) then
    if mark then gone = let_go(base .. 'm' .. mark, event, tonumber(kept[5]), digest) end
    if digest then let_go(base .. 'g' .. digest, event, tonumber(kept[5])) end
    forget_deliveries(ids)
    if kept[7] then forget_request(kept[7], event) end
    call('ZREM', base .. 'E', event)
    call('ZREM', base .. 'h' .. source, event)
    call('DEL', key, base .. 'u' .. event)
    if kept[6] == '1' then count('held_now', source, '', -1) end
    gone = gone + 1
  end
  call('ZREM', ended, event)
  return gone
end

local gone, events = 0, 0
local ended = { base .. 'fd', base .. 'fx', base .. 'fh' }
for at, set in ipairs(ended) do
  local over = call('ZRANGEBYSCORE', set, '-inf', '(' .. ARGV[at + 1], 'LIMIT', 0, lot - events)
  if #over > 0 and events == 0 then expect_to_count() end
  for _, event in ipairs(over) do
    gone = gone + forget(event, set)
    events = events + 1
  end
end
write_counts()
return gone
