-- Takes completed keys that are over out of the lists; Redis took the keys themselves away. What a
-- script that broke off left in the lists goes too.
--
-- ARGV: now, most keys. Answers how many completed keys went.

local until_now, lot = math.min(now, tonumber(ARGV[1])), ARGV[2]

local over = call('ZRANGEBYSCORE', base .. 'fk', '-inf', until_now, 'LIMIT', 0, lot)
for _, id in ipairs(over) do
  if not find(id) then
    call('DEL', base .. 'i' .. id)
    call('ZREM', base .. 'K', id)
  end
  call('ZREM', base .. 'fk', id)
end

for _, api in ipairs(call('SMEMBERS', base .. 'O')) do
  local unknown = call('ZRANGEBYSCORE', base .. 'o' .. api, '-inf', until_now, 'LIMIT', 0, lot)
  for _, id in ipairs(unknown) do
    if not find(id) then
      call('ZREM', base .. 'o' .. api, id)
      call('ZREM', base .. 'K', id)
    end
  end
end
return #over
