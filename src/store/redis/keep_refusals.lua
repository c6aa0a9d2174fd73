-- Keeps refused requests, and lets the oldest go.
-- ARGV: most of a source and step, most bytes of a source; then for each: id, source, step, bytes,
-- its line in the list, headers, sealed, body, whether there is a body.
--
-- A refusal is in both lists before it is there itself: what a script that broke off left in them is
-- found by the next one, and goes.

local most, most_bytes = tonumber(ARGV[1]), tonumber(ARGV[2])

local function forget(source, id)
  call('DEL', base .. 'n' .. id)
  call('ZREM', base .. 'N' .. source, id)
  call('ZREM', base .. 'P', id)
end

-- Newest first, so that the oldest are those that are too many. There are never more than the limits
-- let in and one.
local function make_room(source)
  local of_step, bytes = {}, 0
  for _, id in ipairs(call('ZREVRANGEBYLEX', base .. 'N' .. source, '+', '-')) do
    local one = call('HMGET', base .. 'n' .. id, 'st', 'n')
    if not one[1] then
      forget(source, id)
    else
      of_step[one[1]] = (of_step[one[1]] or 0) + 1
      if of_step[one[1]] > most then
        forget(source, id)
      else
        bytes = bytes + tonumber(one[2])
        if bytes > most_bytes then forget(source, id) end
      end
    end
  end
end

local function keep(id, source, step, bytes, line, headers, sealed, body, has_body)
  local key = base .. 'n' .. id
  if call('EXISTS', key) == 1 then return end
  call('ZADD', base .. 'P', 0, id)
  call('ZADD', base .. 'N' .. source, 0, id)
  if has_body == '1' then
    call('HSET', key, 'st', step, 'n', bytes, 's', source, 'm', line, 'h', headers, 'z', sealed, 'b', body)
  else
    call('HSET', key, 'st', step, 'n', bytes, 's', source, 'm', line, 'h', headers, 'z', sealed)
  end
  make_room(source)
end

for at = 3, #ARGV, 9 do
  keep(unpack(ARGV, at, at + 8))
end
return 'K'
