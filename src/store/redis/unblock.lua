-- Dead deliveries leave their lines, so that those behind them go on.
-- ARGV: not after, which of them: `line` for those that stand in line, `any` also for those that left it
-- before; then the deliveries. Answers L late, or those unblocked.

local now, not_after, only_in_line = time(), tonumber(ARGV[1]), ARGV[2] == 'line'
if now > not_after then return 'L' end

local unblocked = {}
local function unblock(id)
  local kept = call('HMGET', base .. 'd' .. id, 's', 'h', 'o')
  if kept[1] ~= 'x' or not kept[3] then return end
  if only_in_line and not call('ZSCORE', line_of(kept[2], kept[3]), id) then return end
  if string.sub(kept[3], 1, 1) == 'b' then
    call('HSET', base .. 'd' .. id, 'o', 'u' .. string.sub(kept[3], 2))
  end
  leave_line(id, kept[2], kept[3], now)
  unblocked[#unblocked + 1] = id
end

expect_to_count()
local failed = each(3, 1, unblock)
return failed or unblocked
