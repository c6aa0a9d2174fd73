-- Ends an owner's lease with an unknown outcome. ARGV: key, owner, note. Answers: K kept · L lost.

local kept = find(ARGV[1])
if not kept or kept.owner ~= ARGV[2] or kept.state == 'completed' then return 'L' end
call('HSET', base .. 'i' .. kept.id, 'no', ARGV[3])
call('ZADD', open_keys(kept.id), 0, kept.id)
kept.stage = 'u'
call('SET', base .. 'k' .. kept.id, value_of(kept))
return 'K'
