-- Dead deliveries are queued again, due now, with a fresh budget. A wish that is sent again finds
-- its own id on them and renews nothing twice.
--
-- ARGV: not after, wish, how long it is remembered; then the deliveries.
-- Answers L late · Z where all that it is about was erased · or the deliveries it is about.

local now, not_after, wish = time(), tonumber(ARGV[1]), ARGV[2]
if now > not_after then return 'L' end

local redriven, is_erased = {}, false
local function redrive(id)
  local key = base .. 'd' .. id
  local kept = call('HMGET', key, 's', 'v', 'e', 'h', 'src', 'n')
  local handler, source = kept[4], kept[5]
  local again = kept[2] == wish
  if not again and kept[1] ~= 'x' then return end
  if not again and call('HEXISTS', base .. 'e' .. kept[3], 'er') == 1 then
    is_erased = true
    return
  end
  redriven[#redriven + 1] = id
  if again and kept[1] ~= 'q' then return end -- it has run since
  if not again then
    reopen(kept[3])
    call('SADD', base .. 'r' .. wish, id)
    call('HSET', key, 's', 'q', 't', now, 'v', wish, 'b', kept[6] or 0, 'w', 0)
    count('dead_now', source, handler, -1)
    count('queued', source, handler, 1)
  end
  call('ZADD', base .. 'q' .. handler, 'NX', now, id)
  call('ZREM', base .. 'x' .. handler, id)
end

expect_to_count()
local failed = each(4, 1, redrive)
if #redriven > 0 then call('PEXPIRE', base .. 'r' .. wish, ARGV[3]) end
write_counts()
if is_erased and #redriven == 0 then return failed or 'Z' end
return failed or redriven
