-- Queued and dead deliveries go to another handler; their state stays. They are in the new place
-- before they leave the old one, and a claim takes what is in the wrong one out. Those that stand in line
-- go last in a line of that handler, in the order in which they are named.
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

expect_to_count()
local failed = each(3, 1, move)
write_counts()
return failed or moved
