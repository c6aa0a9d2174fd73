-- Gives deliveries back untried. ARGV: worker and claim or two empty strings; then
-- delivery and token of each lease. With a claim, the leases are what it got.

local now, worker, claim = time(), ARGV[1], ARGV[2]

local leases = { unpack(ARGV, 3) }
if worker ~= '' then
  local last = call('GET', base .. 'l' .. worker)
  last = last and cmsgpack.unpack(last) or {}
  if last[1] == claim then leases = { unpack(last, 2) } end
end
if #leases == 0 then return 0 end

expect_to_count()
local function release(id, token)
  local key = base .. 'd' .. id
  local kept = call('HMGET', key, 's', 'k', 'h', 'src', 'n')
  if kept[1] ~= 'l' or tonumber(kept[2]) ~= tonumber(token) then return end
  -- A higher token fences off whoever still holds the lease.
  call('HSET', key, 's', 'q', 't', now, 'k', kept[2] + 1, 'n', kept[5] - 1)
  count('leased', kept[4], kept[3], -1)
  count('queued', kept[4], kept[3], 1)
  call('ZADD', base .. 'q' .. kept[3], now, id)
end

-- What one of them fails at falls due by itself when its lease ends.
for at = 1, #leases, 2 do alone(release, leases[at], leases[at + 1]) end
write_counts()
return 0
