-- A person accepts what the store has lost: it begins a new generation, behind which stand those it
-- replaces, so that whoever knows one of them follows. It stands alone.
--
-- KEYS[1] is the head of the bucket's keys. ARGV: the new generation, the one that was seen last, most
-- generations remembered. Answers its counter.

local base, call = KEYS[1], redis.call
local fresh, seen, most = ARGV[1], ARGV[2], tonumber(ARGV[3])
local seconds_and_micros = call('TIME')
local now = seconds_and_micros[1] * 1000 + math.floor(seconds_and_micros[2] / 1000)

local before = call('GET', base .. 'G') or ''
local generations = fresh .. before
if seen ~= '' and not string.find(before, seen, 1, true) then generations = fresh .. seen .. before end
call('SET', base .. 'G', string.sub(generations, 1, most * #fresh))
call('SET', base .. 'G' .. fresh, now)
-- Whoever still works in the one before is turned away, and looks.
if before ~= '' then call('DEL', base .. 'G' .. string.sub(before, 1, #fresh)) end
return now
