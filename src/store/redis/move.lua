-- Queued and dead deliveries go to another handler; their state stays. They are in the new place
-- before they leave the old one, and a claim takes what is in the wrong one out.
--
-- ARGV: not after, the new handler; then the deliveries. Answers L late, or those moved.

local now, not_after, to = time(), tonumber(ARGV[1]), ARGV[2]
if now > not_after then return 'L' end

local moved = {}
local function move(id)
  local key = base .. 'd' .. id
  local kept = call('HMGET', key, 's', 'h', 'src', 't')
  local state, from, source = kept[1], kept[2], kept[3]
  if state ~= 'q' and state ~= 'x' then return end
  moved[#moved + 1] = id
  if from == to then return end
  local set = state == 'q' and 'q' or 'x'
  call('ZADD', base .. set .. to, state == 'q' and kept[4] or 0, id)
  call('HSET', key, 'h', to)
  local gauge = state == 'q' and 'queued' or 'dead_now'
  count(gauge, source, from, -1)
  count(gauge, source, to, 1)
  call('ZREM', base .. set .. from, id)
end

expect_to_count()
local failed = each(3, 1, move)
write_counts()
return failed or moved
