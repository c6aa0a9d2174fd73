-- Queued deliveries are dead at once. What is leased is not touched.
-- ARGV: not after; then the deliveries. Answers L late, or those killed.

local now, not_after = time(), tonumber(ARGV[1])
if now > not_after then return 'L' end

local killed = {}
local function kill(id)
  local key = base .. 'd' .. id
  local kept = call('HMGET', key, 's', 'e', 'h', 'src', 'o')
  if kept[1] ~= 'q' then return end
  call('HSET', key, 's', 'x', 't', now)
  count('queued', kept[4], kept[3], -1)
  count('dead', kept[4], kept[3], 1)
  count('dead_now', kept[4], kept[3], 1)
  killed[#killed + 1] = id
  put_away(id, kept[2], kept[3], 'x', now, kept[5])
end

expect_to_count()
local failed = each(2, 1, kill)
write_counts()
return failed or killed
