-- What all scripts share; it is put in front of each of them.
--
-- KEYS[1] is the head of every key of one bucket, with its hash tag: `h:{h00}`. Behind it follow:
--   m<20 bytes>   mark: the event's id, and `u` behind it while its admission is unfinished; or, once
--                 the event is pruned, the key of its digest
--   g<20 bytes>   digest: the id of the first event with this content
--   e<id>         event: m meta, h headers, b body, s source, ds ids of its deliveries, hs handlers
--                 of the first of them, k and g keys of mark and digest, w when its window ends,
--                 r resent, held, n duplicates, u unfinished (where there is no mark to say so),
--                 rq the request it came in, where that is kept: then h is empty; er when it was
--                 erased, zr the request it came in before that
--   R<id>         request: h headers, b body, which is empty once one of its events was erased
--   S<id>         the events that came in it
--   u<id>         its duplicates, newest first
--   d<id>         delivery: e event, h handler, src source, s state (q l d x), t due, k token,
--                 n attempts, b attempts before redrive, w deaths in a row, la leased at,
--                 r replay of, v redriven by, x last error
--   a<id>         its attempts, by token
--   q<handler>    queued and leased deliveries, by when they fall due
--   x<handler>    dead deliveries, by id
--   h<source>     held events, by id
--   E, D          all events, all deliveries, by id
--   fd, fx, fh    events that are done; dead or unrouted; held: by when they ended
--   l<worker>     what its last claim got
--   r<wish>       what a redrive renewed
--   n<id>         refused request: m its line in the list, h headers, z sealed, b body, s source,
--                 st step, n bytes, ra when it was readmitted, and as which events
--   N<source>, P  refused requests of a source, and all of them, by id
--   c             counters: what \0 source \0 handler
--   C             what people have said about handlers: thing, space, handler
--   V             schema, buckets: how many buckets the store was made with
--   M             how the store stands, where it moves house: a word, the copy's id, the other store
--   G             the generation, and behind it those it replaced; G<generation> is its counter
-- and for keyed requests what keyed.lua says: k, i, K, o, O, fk.
-- All times are milliseconds on the server's clock.

-- KEYS[2] is the counter of the generation that the caller knows. Without it the bucket is not what it
-- was: it was emptied, or replaced, and nothing is done to it.

local base = KEYS[1]
local call = redis.call

if call('EXISTS', KEYS[2]) == 0 then
  return redis.error_reply('GENERATION the store is not the one it was')
end

-- While the store moves house only what runs may end, and later not even that. `does` is what this
-- script is for.
local standing = call('GET', base .. 'M') or 'serving'
local word = string.match(standing, '^%S*')
local serves = word == 'serving' or word == 'filled'
local lets_end = does == 'ends' and word == 'handing-over'
local lets_fill = does == 'fills' and word == 'filling'
if not (serves and does ~= 'fills') and not lets_end and not lets_fill and does ~= 'steps' then
  return redis.error_reply('MOVING ' .. standing)
end

local function time()
  local seconds_and_micros = call('TIME')
  return seconds_and_micros[1] * 1000 + math.floor(seconds_and_micros[2] / 1000)
end

-- Runs one member of a batch by itself: its error is its own answer, and its neighbours go on.
local function alone(member, ...)
  local ok, answer = pcall(member, ...)
  if ok then return answer end
  return 'E' .. (type(answer) == 'table' and answer.err or tostring(answer))
end

-- Runs `member` on the arguments from `first` on, `step` at a time. What is done is counted, also
-- where one of them failed; then the first error is the answer.
local function each(first, step, member)
  local failed
  for at = first, #ARGV, step do
    local answer = alone(member, unpack(ARGV, at, at + step - 1))
    if type(answer) == 'string' then failed = failed or answer end
  end
  return failed
end

-- Counters are summed up over the whole call and written once, at its end. Whoever changes anything
-- finds out first whether they can be: an error then leaves nothing half done.
local counted = {}

local function expect_to_count()
  call('HINCRBY', base .. 'c', 'scripts', 1)
end

local function count(what, source, handler, by)
  local field = what .. '\0' .. source .. '\0' .. handler
  counted[field] = (counted[field] or 0) + by
end

local function write_counts()
  for field, by in pairs(counted) do
    if by ~= 0 then call('HINCRBY', base .. 'c', field, by) end
  end
end

-- Makes a delivery and queues it, or completes what a script that broke off began of it. Says
-- whether it is new. One that has run in the meantime is not queued again.
local function queue(id, event, source, handler, due, replay_of)
  local key = base .. 'd' .. id
  local state = call('HGET', key, 's')
  if not state then
    if replay_of then
      call('HSET', key, 'e', event, 'h', handler, 'src', source, 's', 'q', 't', due, 'r', replay_of)
    else
      call('HSET', key, 'e', event, 'h', handler, 'src', source, 's', 'q', 't', due)
    end
  end
  call('ZADD', base .. 'D', 0, id)
  if not state or state == 'q' or state == 'l' then
    call('ZADD', base .. 'q' .. handler, 'NX', due, id)
  end
  return not state
end

-- If no delivery of the event is open any more, notes when it ended. `id` is the delivery that has
-- just ended, in `state`.
local function notice_end(event, id, state, when)
  local ids = call('HGET', base .. 'e' .. event, 'ds')
  if not ids then return end
  local ended = state == 'x' and 'fx' or 'fd'
  for from = 1, #ids, 16 do
    local other = string.sub(ids, from, from + 15)
    if other ~= id then
      local its = call('HGET', base .. 'd' .. other, 's')
      if its == 'x' then ended = 'fx' elseif its ~= 'd' then return end
    end
  end
  call('ZADD', base .. ended, when, event)
end

-- The event has an open delivery again: it has not ended.
local function reopen(event)
  call('ZREM', base .. 'fd', event)
  call('ZREM', base .. 'fx', event)
  call('ZREM', base .. 'fh', event)
end

-- Takes a delivery that has ended out of its queue. That comes last: as long as it is in there, the
-- next claim finds it and completes what a script that broke off left undone.
local function put_away(id, event, handler, state, when)
  if state == 'x' then call('ZADD', base .. 'x' .. handler, 0, id) end
  notice_end(event, id, state, when)
  call('ZREM', base .. 'q' .. handler, id)
end

-- Writes an attempt down under its token, which makes writing it twice harmless.
local function note_attempt(id, token, attempt, kept_max)
  local key = base .. 'a' .. id
  call('HSET', key, token, attempt)
  if tonumber(token) <= kept_max or call('HLEN', key) <= kept_max then return end
  local oldest
  for _, field in ipairs(call('HKEYS', key)) do
    oldest = math.min(oldest or tonumber(field), tonumber(field))
  end
  call('HDEL', key, oldest)
end
