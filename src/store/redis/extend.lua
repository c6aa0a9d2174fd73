-- Moves the end of live leases. ARGV: lease; then delivery and token of each.
-- Answers for each: K kept · L lost.

local lease_until = time() + tonumber(ARGV[1])
local answers = {}
for at = 2, #ARGV, 2 do
  local id, token = ARGV[at], ARGV[at + 1]
  local kept = call('HMGET', base .. 'd' .. id, 's', 'k', 'h')
  local live = kept[1] == 'l' and kept[2] == token
  if live then
    call('ZADD', base .. 'q' .. kept[3], lease_until, id)
    call('HSET', base .. 'd' .. id, 't', lease_until)
  end
  answers[#answers + 1] = live and 'K' or 'L'
end
return answers
