-- Takes completed keys that are over out of the lists; Redis took the keys themselves away.
-- ARGV: now, most keys. Answers how many went.

local over = call('ZRANGEBYSCORE', base .. 'fk', '-inf', math.min(now, tonumber(ARGV[1])),
  'LIMIT', 0, ARGV[2])
for _, id in ipairs(over) do
  call('ZREM', base .. 'K', id)
  call('ZREM', base .. 'fk', id)
end
return #over
