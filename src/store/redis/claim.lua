-- Takes due deliveries of a handler.
--
-- First everything is read, then what this claim will hold is remembered, and only then is it taken:
-- so a claim whose answer was lost can be asked again, or released, and burns no attempt.
--
-- ARGV: not after, handler, worker, claim, most deliveries, most bytes, lease, attempts a
-- delivery has, attempts kept, the error of an attempt that died.
-- Answers L late, or { score of the next, dead, { delivery… } }.

local now, not_after = time(), tonumber(ARGV[1])
local handler, worker, claim = ARGV[2], ARGV[3], ARGV[4]
local deliveries_max, bytes_max = tonumber(ARGV[5]), tonumber(ARGV[6])
local lease_until, attempts_max = now + tonumber(ARGV[7]), tonumber(ARGV[8])
local attempts_kept_max, died_error = tonumber(ARGV[9]), ARGV[10]
local waiting, last_claim = base .. 'q' .. handler, base .. 'l' .. worker

local function read(id)
  local kept = call('HMGET', base .. 'd' .. id, 's', 'h', 'e', 'src', 'k', 'n', 'b', 'w', 'la', 'r', 't', 'o')
  return {
    id = id, state = kept[1], handler = kept[2], event = kept[3], source = kept[4],
    token = tonumber(kept[5] or 0), attempts = tonumber(kept[6] or 0),
    before = tonumber(kept[7] or 0), deaths = tonumber(kept[8] or 0), leased_at = kept[9],
    replay_of = kept[10] or '', due = kept[11], order = kept[12],
  }
end

local function shown(one)
  local event = call('HMGET', base .. 'e' .. one.event, 'm', 'h', 'b', 'r', 'rq')
  if event[5] then event[2] = call('HGET', base .. 'R' .. event[5], 'h') end
  return { one.id, one.token, one.attempts, one.before, one.replay_of, one.deaths,
    one.order or '', one.event, event[1], event[2], event[3], event[4] }
end

local function next_due()
  return call('ZRANGE', waiting, 0, 0, 'WITHSCORES')[2] or ''
end

-- A due delivery that is leased was held by somebody who died: that attempt is over.
local function write_down_death(one)
  if one.state ~= 'l' then return end
  note_attempt(one.id, one.token, 'died:' .. one.attempts .. ':' .. one.leased_at, attempts_kept_max)
  one.deaths = one.deaths + 1
  call('HSET', base .. 'd' .. one.id, 'x', died_error)
end

local function lease(one)
  local was = one.state
  call('ZADD', waiting, 'XX', lease_until, one.id)
  write_down_death(one)
  one.token, one.attempts = one.token + 1, one.attempts + 1
  call('HSET', base .. 'd' .. one.id, 's', 'l', 't', lease_until, 'k', one.token, 'n', one.attempts,
    'w', one.deaths, 'la', now)
  if was == 'q' then
    count('queued', one.source, handler, -1)
    count('leased', one.source, handler, 1)
  end
  return shown(one)
end

local function bury(one)
  local was = one.state == 'l' and 'leased' or 'queued'
  write_down_death(one)
  -- Whoever comes late with its outcome is fenced off: it must not take this for its own settlement.
  call('HSET', base .. 'd' .. one.id, 's', 'x', 't', now, 'w', one.deaths, 'k', one.token + 1)
  count(was, one.source, handler, -1)
  count('dead', one.source, handler, 1)
  count('dead_now', one.source, handler, 1)
  put_away(one.id, one.event, handler, 'x', now, one.order)
  return 'dead'
end

-- What is in the queue of this handler and should not be: the end of a script that broke off.
local function tidy(one)
  if one.state == 'd' or one.state == 'x' then
    put_away(one.id, one.event, one.handler, one.state, one.due, one.order)
  end
  call('ZREM', waiting, one.id)
end

local last = call('GET', last_claim)
if last then
  last = cmsgpack.unpack(last)
  if last[1] == claim then
    expect_to_count() -- a write, so that waiting for a replica covers what is shown
    local live = {}
    for at = 2, #last, 2 do
      local one = read(last[at])
      if one.state == 'l' and one.token == last[at + 1] then live[#live + 1] = shown(one) end
    end
    return { next_due(), 0, live }
  end
end
if now > not_after then return 'L' end

local take, spent, strays, remember, bytes = {}, {}, {}, { claim }, 0
for _, id in ipairs(call('ZRANGEBYSCORE', waiting, '-inf', now, 'LIMIT', 0, deliveries_max)) do
  local one = read(id)
  local size = one.event and call('HSTRLEN', base .. 'e' .. one.event, 'b') or 0
  if (one.state ~= 'q' and one.state ~= 'l') or one.handler ~= handler then
    strays[#strays + 1] = one
  elseif one.attempts - one.before >= attempts_max then
    spent[#spent + 1] = one
  elseif bytes > 0 and bytes + size > bytes_max then
    break
  else
    bytes = bytes + size
    take[#take + 1] = one
    remember[#remember + 1] = id
    remember[#remember + 1] = one.token + 1
  end
end
if #take + #spent + #strays == 0 then
  -- A claim that got nothing is not remembered: a worker that waits would write all the time. Asked
  -- again it may get something, which nobody else has got then. The one before it is forgotten.
  if last then call('DEL', last_claim) end
  return { next_due(), 0, {} }
end

expect_to_count()
call('SET', last_claim, cmsgpack.pack(remember), 'PX', (lease_until - now) * 4 + 60000)
local taken, dead, err = {}, 0, nil
for _, one in ipairs(take) do
  local got = alone(lease, one)
  if type(got) == 'table' then taken[#taken + 1] = got else err = got end
end
for _, one in ipairs(spent) do
  if alone(bury, one) == 'dead' then dead = dead + 1 end
end
for _, one in ipairs(strays) do alone(tidy, one) end
write_counts()
if err and #taken == 0 then return err end
return { next_due(), dead, taken }
