-- Frees an owner's key. ARGV: key, owner. Answers: K it is free · L lost.

local kept = find(ARGV[1])
if not kept then return 'K' end
if kept.owner ~= ARGV[2] or kept.state == 'completed' then return 'L' end
free(kept)
return 'K'
