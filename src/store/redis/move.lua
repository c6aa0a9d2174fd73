-- Queued and dead deliveries go to another handler; their state stays. They are in the new place
-- before they leave the old one, and a claim takes what is in the wrong one out. Those that stand in line
-- go last in a line of that handler, first those that stood first.
--
-- ARGV: not after, the new handler; then the deliveries. Answers L late, or those moved.

local now, not_after, to = time(), tonumber(ARGV[1]), ARGV[2]
if now > not_after then return 'L' end

local moved = {}
local function move(id)
  local key = base .. 'd' .. id
  local kept = call('HMGET', key, 's', 'h', 'src', 't', 'o')
  local state, from, source, order = kept[1], kept[2], kept[3], kept[5]
  if state ~= 'q' and state ~= 'x' then return end
  moved[#moved + 1] = id
  if from == to then return end
  local set = state == 'q' and 'q' or 'x'
  local in_line = order and call('ZSCORE', line_of(from, order), id)
  local due = in_line and state == 'q' and never or kept[4]
  call('ZADD', base .. set .. to, state == 'q' and due or 0, id)
  call('HSET', key, 'h', to, 't', due)
  local gauge = state == 'q' and 'queued' or 'dead_now'
  count(gauge, source, from, -1)
  count(gauge, source, to, 1)
  call('ZREM', base .. set .. from, id)
  if in_line then
    join_line(id, to, order, now)
    leave_line(id, from, order, now)
  end
end

-- Where a delivery stands in line; behind all others where it does not.
local function place(id)
  local kept = call('HMGET', base .. 'd' .. id, 'h', 'o')
  return kept[2] and tonumber(call('ZSCORE', line_of(kept[1], kept[2]), id) or nil) or math.huge
end

local places, ids = {}, { unpack(ARGV, 3) }
for _, id in ipairs(ids) do places[id] = place(id) end
table.sort(ids, function(one, other)
  if places[one] ~= places[other] then return places[one] < places[other] end
  return one < other
end)

expect_to_count()
local failed
for _, id in ipairs(ids) do
  local answer = alone(move, id)
  if type(answer) == 'string' then failed = failed or answer end
end
write_counts()
return failed or moved
