-- Writes down how attempts ended, and how their deliveries go on.
--
-- The state of the delivery is the turning point: what comes before it can be written twice, and
-- what comes after it is completed by the same settlement sent again, or by the next claim.
--
-- ARGV: attempts kept; then for each: delivery, token, verdict (q, d or x), due, died,
-- attempt, error. Answers for each: K kept · L lost · E with an error.

local now, attempts_kept_max = time(), tonumber(ARGV[1])

local function settle(id, token, verdict, due, died, attempt, err)
  local key = base .. 'd' .. id
  local kept = call('HMGET', key, 'k', 's', 'e', 'h', 'src', 'w', 't', 'o')
  local state, event, handler, source = kept[2], kept[3], kept[4], kept[5]
  -- It was taken for dead, and was done. Then the death is written down under this token; and under the one
  -- it has now nothing is, or somebody has claimed it since.
  local was_buried = verdict == 'd' and (state == 'x' or state == 'd')
    and tonumber(kept[1]) == token + 1
    and call('HEXISTS', base .. 'a' .. id, token) == 1 and call('HEXISTS', base .. 'a' .. id, kept[1]) == 0
  if kept[1] ~= token and not was_buried then return 'L' end
  local function dig_up()
    call('ZREM', base .. 'x' .. handler, id)
    reopen(event)
  end
  if state ~= 'l' and not (was_buried and state == 'x') then -- this very settlement, sent again
    if was_buried then dig_up() end
    if state ~= 'q' then put_away(id, event, handler, state, kept[7], kept[8]) end
    return 'K'
  end
  note_attempt(id, token, attempt, attempts_kept_max)
  local deaths = died == '1' and tonumber(kept[6] or 0) + 1 or 0
  local t = verdict == 'q' and due or now
  call('HSET', key, 's', verdict, 't', t, 'w', deaths, 'x', err)
  if was_buried then
    count('dead_now', source, handler, -1)
    count('done', source, handler, 1)
    dig_up()
    put_away(id, event, handler, verdict, now, kept[8])
    return 'K'
  end
  count('leased', source, handler, -1)
  if verdict == 'q' then
    count('queued', source, handler, 1)
    call('ZADD', base .. 'q' .. handler, due, id)
    return 'K'
  end
  if verdict == 'x' then count('dead_now', source, handler, 1) end
  count(verdict == 'd' and 'done' or 'dead', source, handler, 1)
  put_away(id, event, handler, verdict, now, kept[8])
  return 'K'
end

expect_to_count()
local answers = {}
for at = 2, #ARGV, 7 do
  answers[#answers + 1] = alone(settle, unpack(ARGV, at, at + 6))
end
write_counts()
return answers
