-- What the scripts for keyed requests share. A key is in one hash group, as everything is:
--
--   k<32 bytes>   the key: how it stands. It expires once it is completed, and never before.
--   i<32 bytes>   beside it, what is read: a API, sc scope, b begun at, l lease until,
--                 t completed at, n replays, no note, st status, h headers, y body
--   K             all keys, by when they were begun
--   o<api>        those in progress, by their lease's end, and unknown ones, by 0 where marked so
--   O             the names of APIs that ever began a key
--   fk            completed keys, by when they are over
--
-- The key's own value is one string: its stage (b begun, u marked unknown, c completed), its owner
-- (16 bytes, zeros once a person resolved it), its fingerprint (32 bytes), then when its lease ends
-- or, once it is completed, when it is over. Writing it is the turning point of every verb: what comes
-- before can be written twice, and what comes after is tidied up by prune. Whether a begun key
-- is still in progress follows from the time, so nothing is written when a lease runs out.

local now = time()
local ownerless = string.rep('\0', 16)

-- A time as Lua would not write it: with all its digits.
local function digits(millis)
  return string.format('%.0f', millis)
end

-- The key, or nothing when it is free. One that is over is free, and is gone from then on.
local function find(id)
  local value = call('GET', base .. 'k' .. id)
  if not value then return nil end
  local kept = {
    id = id, stage = string.sub(value, 1, 1), owner = string.sub(value, 2, 17),
    fingerprint = string.sub(value, 18, 49), ends = tonumber(string.sub(value, 50)),
  }
  if kept.stage == 'c' and kept.ends <= now then
    call('DEL', base .. 'k' .. id)
    return nil
  end
  if kept.stage == 'c' then
    kept.state = 'completed'
  elseif kept.stage == 'b' and now < kept.ends then
    kept.state = 'in progress'
  else
    kept.state = 'unknown'
  end
  return kept
end

local function value_of(kept)
  return kept.stage .. kept.owner .. kept.fingerprint .. digits(kept.ends)
end

-- The list of open keys of the key's API.
local function open_keys(id)
  return base .. 'o' .. (call('HGET', base .. 'i' .. id, 'a') or '')
end

-- Moves the lease's end of a key that is in progress.
local function move_lease(kept, ends)
  kept.ends = ends
  call('HSET', base .. 'i' .. kept.id, 'l', digits(ends))
  call('ZADD', open_keys(kept.id), ends, kept.id)
  call('SET', base .. 'k' .. kept.id, value_of(kept))
end

-- Saves the answer. The expiry is a millisecond less: Redis still gives what expires now.
local function save(kept, owner, status, headers, body, retention)
  kept.stage, kept.owner, kept.ends = 'c', owner, now + retention
  local key, info = base .. 'k' .. kept.id, base .. 'i' .. kept.id
  call('HSET', info, 't', digits(now), 'st', status, 'h', headers, 'y', body)
  call('ZADD', base .. 'fk', kept.ends, kept.id)
  call('ZREM', open_keys(kept.id), kept.id)
  call('SET', key, value_of(kept), 'PXAT', digits(kept.ends - 1))
  call('PEXPIREAT', info, digits(kept.ends - 1))
end

-- Makes the key free.
local function free(kept)
  call('ZREM', open_keys(kept.id), kept.id)
  call('DEL', base .. 'k' .. kept.id, base .. 'i' .. kept.id)
  call('ZREM', base .. 'K', kept.id)
end
