-- Dead deliveries leave their lines, so that those behind them go on.
-- ARGV: not after; then the deliveries. Answers L late, or those unblocked.

local now, not_after = time(), tonumber(ARGV[1])
if now > not_after then return 'L' end

local unblocked = {}
local function unblock(id)
  local kept = call('HMGET', base .. 'd' .. id, 's', 'h', 'o')
  if kept[1] ~= 'x' or not kept[3] then return end
  if string.sub(kept[3], 1, 1) == 'b' then
    call('HSET', base .. 'd' .. id, 'o', 'u' .. string.sub(kept[3], 2))
  end
  leave_line(id, kept[2], kept[3], now)
  unblocked[#unblocked + 1] = id
end

expect_to_count()
local failed = each(2, 1, unblock)
return failed or unblocked
