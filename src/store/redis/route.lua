-- A person's wish for new deliveries of one event: a replay, or admitting a held one.
--
-- ARGV: not after, `replay` or `held`, event; then id and handler of each delivery.
-- Answers L late · N no such event, or not in that state · Z it was erased · K done.

local now, not_after, wish, event = time(), tonumber(ARGV[1]), ARGV[2], ARGV[3]
local key = base .. 'e' .. event

if now > not_after then return 'L' end
local kept = call('HMGET', key, 's', 'ds', 'held', 'er')
local source, ids, held = kept[1], kept[2], kept[3] == '1'
if not source then return 'N' end

local function has(id)
  for from = 1, #ids, 16 do
    if string.sub(ids, from, from + 15) == id then return true end
  end
  return false
end

-- The first delivery for the handler that is no replay itself.
local function first_for(handler)
  for from = 1, #ids, 16 do
    local id = string.sub(ids, from, from + 15)
    local one = call('HMGET', base .. 'd' .. id, 'h', 'r')
    if one[1] == handler and not one[2] then return id end
  end
end

local wanted = { unpack(ARGV, 4) }
if wish == 'replay' and kept[4] then return 'Z' end
if wish == 'replay' and held then return 'N' end
if wish == 'held' and not held then
  for at = 1, #wanted, 2 do
    if not has(wanted[at]) then return 'N' end
  end
  if #wanted == 0 then return 'N' end
elseif wish == 'held' and kept[4] then
  return 'Z'
end

expect_to_count()
local firsts, longer = {}, ids
for at = 1, #wanted, 2 do
  firsts[at] = wish == 'replay' and first_for(wanted[at + 1]) or nil
  if not has(wanted[at]) then longer = longer .. wanted[at] end
end
call('HSET', key, 'ds', longer)

local function route()
  if held then
    call('HDEL', key, 'held')
    count('held_now', source, '', -1)
    if #wanted == 0 then count('unrouted', source, '', 1) end
    call('ZREM', base .. 'h' .. source, event)
    reopen(event)
    if #wanted == 0 then call('ZADD', base .. 'fx', now, event) end
  end
  for at = 1, #wanted, 2 do
    if queue(wanted[at], event, source, wanted[at + 1], now, firsts[at]) then
      count('queued', source, wanted[at + 1], 1)
      if wish == 'held' then count('events', source, wanted[at + 1], 1) end
      reopen(event)
    end
  end
  return 'K'
end

-- What is done is counted, also where it broke off: sent again, the wish completes the rest.
local answer = alone(route)
write_counts()
return answer
