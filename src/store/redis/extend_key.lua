-- Moves the end of an owner's lease that lasts. ARGV: key, owner, lease. Answers: K kept · L lost.

local kept = find(ARGV[1])
if not kept or kept.owner ~= ARGV[2] or kept.state ~= 'in progress' then return 'L' end
move_lease(kept, now + tonumber(ARGV[3]))
return 'K'
