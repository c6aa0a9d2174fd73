-- What a connection finds out about its bucket when it is opened, and every few seconds after that.
-- It stands alone: it must run where the others refuse to.
--
-- KEYS[1] is the head of the bucket's keys. ARGV: schema this program knows, buckets it was told of,
-- generation and counter it saw last (or an empty string and 0), how far the counter may have gone back, and the id of the
-- generation to begin where there is none.
-- Answers { word, … }: `newer` with the schema found · `buckets` with their number · `forgotten` ·
-- `other` · `back` with by how much · or, where all is well, `new`, `follows`, `slipped` or `known` with generation,
-- counter, and by how much it had slipped back.

local base, call = KEYS[1], redis.call
local schema, buckets, seen, counter_seen = tonumber(ARGV[1]), ARGV[2], ARGV[3], tonumber(ARGV[4])
local slack, fresh = tonumber(ARGV[5]), ARGV[6]
local seconds_and_micros = call('TIME')
local now = seconds_and_micros[1] * 1000 + math.floor(seconds_and_micros[2] / 1000)

local kept = call('HMGET', base .. 'V', 'schema', 'buckets')
if kept[1] and tonumber(kept[1]) > schema then return { 'newer', kept[1] } end
if kept[2] and kept[2] ~= buckets then return { 'buckets', kept[2] } end

local word = 'known'
local generations = call('GET', base .. 'G')
if not generations then
  if seen ~= '' then return { 'forgotten' } end
  generations, word = fresh, 'new'
end
local current = string.sub(generations, 1, #fresh)
local counter = tonumber(call('GET', base .. 'G' .. current) or 0)
local back = 0
if seen == current then
  back = math.max(counter_seen - counter, 0)
  if back > slack then return { 'back', back } end
  if back > 0 then word = 'slipped' end
elseif seen ~= '' then
  -- Somebody may have accepted that the one we know is lost: then it stands behind the one that is now.
  if not string.find(generations, seen, #fresh + 1, true) then return { 'other' } end
  word = 'follows'
end

counter = math.max(counter + 1, now)
if word == 'new' then call('SET', base .. 'G', generations) end
call('SET', base .. 'G' .. current, counter)
if not kept[1] then call('HSET', base .. 'V', 'schema', schema, 'buckets', buckets) end
return { word, current, counter, back }
