-- Takes refused requests away that are older than an id. ARGV: that id, how many at most.

local old = call('ZRANGEBYLEX', base .. 'P', '-', '(' .. ARGV[1], 'LIMIT', 0, ARGV[2])
for _, id in ipairs(old) do
  local source = call('HGET', base .. 'n' .. id, 's')
  if source then call('ZREM', base .. 'N' .. source, id) end
  call('DEL', base .. 'n' .. id)
  call('ZREM', base .. 'P', id)
end
return #old
