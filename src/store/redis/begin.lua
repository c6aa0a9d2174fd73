-- Takes a free key for an owner, or says how it stands.
--
-- ARGV: key, owner, fingerprint, not after, lease, retry, API, scope, begun at.
-- Answers: S started · F in flight, when its lease ends · C completed · M mismatch · U unknown, its
-- note · L late. C is followed by when it was completed, when it is over, status, headers and body.

local id, owner, fingerprint, not_after = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local ends, retry = now + tonumber(ARGV[5]), ARGV[6] == '1'
local api, scope, begun_at = ARGV[7], ARGV[8], ARGV[9]
local info = base .. 'i' .. id

local function take(known)
  local begun = { stage = 'b', owner = owner, fingerprint = fingerprint, ends = ends }
  -- What is left of a retention that is over, or of an owner that is taken over from.
  call('DEL', info)
  call('ZREM', base .. 'fk', id)
  call('HSET', info, 'a', api, 'sc', scope, 'b', begun_at,
    'l', digits(ends), 'n', 0)
  call('SADD', base .. 'O', api)
  call('ZADD', base .. 'K', begun_at, id)
  call('ZADD', base .. 'o' .. api, ends, id)
  call('SET', base .. 'k' .. id, value_of(begun), known and 'XX' or 'NX')
  return { 'S' }
end

local kept = find(id)
if kept and kept.owner == owner and kept.fingerprint == fingerprint
  and kept.state == 'in progress' then
  move_lease(kept, ends) -- this very call, sent again
  return { 'S' }
end
if now > not_after then return { 'L' } end
if not kept then return take(false) end
if kept.fingerprint ~= fingerprint then return { 'M' } end
if kept.state == 'in progress' then return { 'F', digits(kept.ends - now) } end
if kept.state == 'completed' then
  call('HINCRBY', info, 'n', 1)
  local saved = call('HMGET', info, 't', 'st', 'h', 'y')
  return { 'C', saved[1], digits(kept.ends), saved[2], saved[3], saved[4] }
end
if retry then return take(true) end
return { 'U', call('HGET', info, 'no') or '' }
